//go:build amd64

package cpu
import ("testing";"time";"fmt")
func TestZU(t *testing.T){
 const cols=2880
 for _,l:=range levels(){ if l.name!="avx2"{continue}
   w:=&worker{k:&l.kernels,tile:make([]float32,tileRows*cols),y:make([]float32,512*tileRows),at:make([]int,512),sums:make([]float32,panelRows*tileRows*8)}
   for _,n:=range []int{3,6,12,24,48,96}{
   x:=make([]float32,n*cols)
   best,bestp:=time.Hour,time.Hour
   loop,flops:=multiplyAdds(l.name)
   for i:=0;i<100;i++{
     s:=time.Now(); for k:=0;k<48/n+1;k++{ l.kernels.mul(w,x,nil,n,cols,tileRows,nil)}; if d:=time.Since(s)/time.Duration(48/n+1);d<best{best=d}
     s=time.Now(); loop(20000); if d:=time.Since(s);d<bestp{bestp=d}
   }
   ghz:=float64(20000*flops)/32/float64(bestp.Nanoseconds())
   steps:=float64(tileRows*cols/64)
   fmt.Printf("mul n=%d: %.2f cycles a step and row (at %.2f GHz), bound 4: %.2f\n",n,float64(best.Nanoseconds())/steps*ghz/float64(n),ghz,4/(float64(best.Nanoseconds())/steps*ghz/float64(n)))
   }
  }
}
