package cuda

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"unsafe"

	"hearth/internal/device"
	"hearth/internal/testgpu"
)

// Copies of every size arrive, whatever they pass through: the queue's page-locked memory, the uploader's two buffers,
// the staging area.
func TestCopies(t *testing.T) {
	eachContext(t, func(t *testing.T, c *context) {
		r := rand.New(rand.NewPCG(1, 2))
		u, err := newUploader(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 4, 255, queuePinned + 1, 2*pinSize + 5} {
			src := make([]byte, n)
			for i := 0; i < n; i += 1 + r.IntN(64) {
				src[i] = byte(r.IntN(256))
			}
			b, err := c.alloc(int64(n), useWeights)
			if err != nil {
				t.Fatal(err)
			}
			d, err := c.alloc(int64(n), useWeights)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, n)
			for i, send := range []func(){
				func() { c.queue.upload(b.ptr, src) },
				func() { u.copy(b.ptr, src) },
				func() {
					u.stage([][]byte{src[:n/2], src[n/2:]}, func(q *queue, at []devptr) {
						q.copy(b.ptr, at[0], int64(n/2))
						q.copy(b.ptr+devptr(n/2), at[1], int64(n-n/2))
					})
				},
			} {
				c.queue.set(b.ptr, 0xaa, int64(n))
				send()
				c.queue.copy(d.ptr, b.ptr, int64(n))
				clear(got)
				c.queue.download(got, d.ptr)
				if err := c.queue.sync(); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, src) {
					t.Errorf("%d bytes, way %d: they differ", n, i)
				}
			}
			c.free(b)
			c.free(d)
		}
		if err := u.close(); err != nil {
			t.Error(err)
		}
	})
}

func TestStageRefusesTooMuch(t *testing.T) {
	_, c := simContext(t, testgpu.Config{})
	u, err := newUploader(c)
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	u.stage([][]byte{make([]byte, stageMax), {1}}, func(*queue, []devptr) { t.Error("it ran") })
	if err := u.flush(); err == nil || !strings.Contains(err.Error(), "at most 67108864") {
		t.Errorf("error %v", err)
	}
}

// Errors keep the first cause, name what was asked for, and leave the queue usable unless the context is dead.
func TestQueueErrors(t *testing.T) {
	m, c := simContext(t, testgpu.Config{})
	k, err := c.kernel(kernelSpec{module: "step", name: "unpackStep", params: unsafe.Sizeof(unpackParams{})})
	if err != nil {
		t.Fatal(err)
	}
	q := c.queue
	var p unpackParams
	for _, e := range []struct {
		want string
		do   func()
	}{
		{"8 bytes of parameters, registered with 64", func() { launch(q, k, dim{1, 1, 1}, dim{32, 1, 1}, 0, new(int64)) }},
		{"1 bytes of shared memory, registered with 0", func() { launch(q, k, dim{1, 1, 1}, dim{32, 1, 1}, 1, &p) }},
		{"grid [0 1 1]", func() { launch(q, k, dim{0, 1, 1}, dim{32, 1, 1}, 0, &p) }},
		{"kernel unpackStep, grid [1 1 1], block [2048 1 1], 0 bytes shared: cuLaunchKernel", func() { launch(q, k, dim{1, 1, 1}, dim{2048, 1, 1}, 0, &p) }},
		{"cuMemsetD8Async: CUDA_ERROR_1 ", func() { q.zero(12345, 8) }},
		{"freed GPU memory at 0x7b, which is not allocated", func() { c.free(buffer{ptr: 123, size: 1}) }},
	} {
		e.do()
		q.zero(1, 1) // not reached
		if err := q.sync(); err == nil || !strings.Contains(err.Error(), e.want) {
			t.Errorf("error %v, want %q", err, e.want)
		}
		if err := q.sync(); err != nil {
			t.Errorf("after %q: %v", e.want, err)
		}
	}
	calls := m.calls["cuLaunchKernel"]
	launch(q, k, dim{1, 1, 1}, dim{32, 1, 1}, 0, &p) // reads address 0
	err = q.sync()
	if !errors.Is(err, device.ErrLost) || !strings.Contains(err.Error(), "please report") {
		t.Errorf("an illegal access gives %v", err)
	}
	launch(q, k, dim{1, 1, 1}, dim{32, 1, 1}, 0, &p)
	if err := q.sync(); !errors.Is(err, device.ErrLost) || m.calls["cuLaunchKernel"] != calls+1 {
		t.Errorf("a dead context is used again: %v", err)
	}
	if _, err := c.alloc(1, useKV); !errors.Is(err, device.ErrLost) {
		t.Errorf("a dead context allocates: %v", err)
	}
}

// A GPU that does not answer is given up, and closing does not wait for it.
func TestGPUThatHangs(t *testing.T) {
	m, d := newSim(testgpu.Config{})
	c, err := openContext(d, 0, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	m.c, m.stalled = c, true
	synctest.Test(t, func(t *testing.T) {
		if err := c.queue.sync(); !errors.Is(err, device.ErrLost) || !strings.Contains(err.Error(), "no answer for 2m0s") {
			t.Errorf("error %v", err)
		}
		before := m.calls["cuStreamQuery"]
		if err := c.close(); err != nil || m.calls["cuStreamQuery"] != before {
			t.Errorf("closing: %v", err)
		}
	})
}

func TestOutOfMemory(t *testing.T) {
	_, c := simContext(t, testgpu.Config{Memory: 64 << 20})
	b, err := c.alloc(40<<20, useWeights)
	if err != nil {
		t.Fatal(err)
	}
	defer c.free(b)
	_, err = c.alloc(30<<20, useKV)
	for _, want := range []string{"30 MiB of GPU memory for the KV cache, 24 of 64 MiB are free", "nvidia-smi", "--max-model-len"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// The books share what a granule has left among buffers of one use, and give back everything.
func TestBooks(t *testing.T) {
	m, c := simContext(t, testgpu.Config{})
	c.memory.granule = 1 << 20
	var all []buffer
	take := func(n int64, what use) buffer {
		t.Helper()
		b, err := c.alloc(n, what)
		if err != nil {
			t.Fatal(err)
		}
		if b.ptr%alignment != 0 {
			t.Errorf("address %#x", b.ptr)
		}
		for _, o := range all {
			if b.ptr < o.ptr+devptr(o.size) && o.ptr < b.ptr+devptr(b.size) {
				t.Errorf("%v overlaps %v", b, o)
			}
		}
		all = append(all, b)
		return b
	}
	take(1<<20+100, useWeights) // two granules
	take(5000, useWeights)
	take(1, useWeights)
	take(7, useKV)
	take(1<<20-4000, useWeights) // does not fit behind the others
	if n := m.calls["cuMemAlloc"]; n != 3 {
		t.Errorf("%d allocations of the driver, want 3", n)
	}
	if c.memory.taken[useWeights] != 3<<20 || c.memory.taken[useKV] != 1<<20 {
		t.Errorf("books: %v", c.memory.taken)
	}
	for _, b := range all {
		c.free(b)
	}
	if err := c.queue.sync(); err != nil || c.memory.taken != [uses]int64{} {
		t.Errorf("books after freeing: %v, %v", c.memory.taken, err)
	}
}

func TestUnfreedMemoryIsReported(t *testing.T) {
	m, d := newSim(testgpu.Config{})
	c, err := openContext(d, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.c = c
	if _, err := c.alloc(100, useKV); err != nil {
		t.Fatal(err)
	}
	if err := c.close(); err == nil || !strings.Contains(err.Error(), "100 bytes of GPU memory for the KV cache were never freed") {
		t.Errorf("error %v", err)
	}
	if left := m.leaks(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
