//go:build !noasm

#include "textflag.h"

#define FADDP4S(m, n, d) WORD $(0x6E20D400 | (m)<<16 | (n)<<5 | (d))

// QUAD adds one register of activations times the same columns of four rows of weights (w0..w3) to four sums.
#define QUAD(x, w0, w1, w2, w3, a, b, c, d) \
	VFMLA w0.S4, x.S4, a.S4; VFMLA w1.S4, x.S4, b.S4; VFMLA w2.S4, x.S4, c.S4; VFMLA w3.S4, x.S4, d.S4

// func neonMul4x4(out *[16]float32, x0, x1, x2, x3, w *float32, wStride, n int)
// n is a multiple of 4 columns, at least 4. Sums run over the columns in order, four lanes apart: the order of the dots.
TEXT ·neonMul4x4(SB), NOSPLIT, $0-64
	MOVD out+0(FP), R0
	MOVD x0+8(FP), R1
	MOVD x1+16(FP), R2
	MOVD x2+24(FP), R3
	MOVD x3+32(FP), R4
	MOVD w+40(FP), R5
	MOVD wStride+48(FP), R9
	MOVD n+56(FP), R10
	ADD R9, R5, R6
	ADD R9, R6, R7
	ADD R9, R7, R8
	VEOR V16.B16, V16.B16, V16.B16
	VEOR V17.B16, V17.B16, V17.B16
	VEOR V18.B16, V18.B16, V18.B16
	VEOR V19.B16, V19.B16, V19.B16
	VEOR V20.B16, V20.B16, V20.B16
	VEOR V21.B16, V21.B16, V21.B16
	VEOR V22.B16, V22.B16, V22.B16
	VEOR V23.B16, V23.B16, V23.B16
	VEOR V24.B16, V24.B16, V24.B16
	VEOR V25.B16, V25.B16, V25.B16
	VEOR V26.B16, V26.B16, V26.B16
	VEOR V27.B16, V27.B16, V27.B16
	VEOR V28.B16, V28.B16, V28.B16
	VEOR V29.B16, V29.B16, V29.B16
	VEOR V30.B16, V30.B16, V30.B16
	VEOR V31.B16, V31.B16, V31.B16
	SUBS $8, R10
	BLT four
eight:
	VLD1.P 32(R1), [V0.S4, V1.S4]
	VLD1.P 32(R2), [V2.S4, V3.S4]
	VLD1.P 32(R3), [V4.S4, V5.S4]
	VLD1.P 32(R4), [V6.S4, V7.S4]
	VLD1.P 32(R5), [V8.S4, V9.S4]
	VLD1.P 32(R6), [V10.S4, V11.S4]
	VLD1.P 32(R7), [V12.S4, V13.S4]
	VLD1.P 32(R8), [V14.S4, V15.S4]
	QUAD(V0, V8, V10, V12, V14, V16, V17, V18, V19)
	QUAD(V2, V8, V10, V12, V14, V20, V21, V22, V23)
	QUAD(V4, V8, V10, V12, V14, V24, V25, V26, V27)
	QUAD(V6, V8, V10, V12, V14, V28, V29, V30, V31)
	QUAD(V1, V9, V11, V13, V15, V16, V17, V18, V19)
	QUAD(V3, V9, V11, V13, V15, V20, V21, V22, V23)
	QUAD(V5, V9, V11, V13, V15, V24, V25, V26, V27)
	QUAD(V7, V9, V11, V13, V15, V28, V29, V30, V31)
	SUBS $8, R10
	BGE eight
four:
	ADDS $8, R10
	BEQ sum
	VLD1 (R1), [V0.S4]
	VLD1 (R2), [V2.S4]
	VLD1 (R3), [V4.S4]
	VLD1 (R4), [V6.S4]
	VLD1 (R5), [V8.S4]
	VLD1 (R6), [V10.S4]
	VLD1 (R7), [V12.S4]
	VLD1 (R8), [V14.S4]
	QUAD(V0, V8, V10, V12, V14, V16, V17, V18, V19)
	QUAD(V2, V8, V10, V12, V14, V20, V21, V22, V23)
	QUAD(V4, V8, V10, V12, V14, V24, V25, V26, V27)
	QUAD(V6, V8, V10, V12, V14, V28, V29, V30, V31)
sum:
	FADDP4S(17, 16, 0)
	FADDP4S(19, 18, 1)
	FADDP4S(21, 20, 2)
	FADDP4S(23, 22, 3)
	FADDP4S(25, 24, 4)
	FADDP4S(27, 26, 5)
	FADDP4S(29, 28, 6)
	FADDP4S(31, 30, 7)
	FADDP4S(1, 0, 8)
	FADDP4S(3, 2, 9)
	FADDP4S(5, 4, 10)
	FADDP4S(7, 6, 11)
	VST1 [V8.S4, V9.S4, V10.S4, V11.S4], (R0)
	RET

// func neonMul1x4(out *[16]float32, x, w *float32, wStride, n int)
// As neonMul4x4, for one row of activations; it writes the first four results.
TEXT ·neonMul1x4(SB), NOSPLIT, $0-40
	MOVD out+0(FP), R0
	MOVD x+8(FP), R1
	MOVD w+16(FP), R5
	MOVD wStride+24(FP), R9
	MOVD n+32(FP), R10
	ADD R9, R5, R6
	ADD R9, R6, R7
	ADD R9, R7, R8
	VEOR V16.B16, V16.B16, V16.B16
	VEOR V17.B16, V17.B16, V17.B16
	VEOR V18.B16, V18.B16, V18.B16
	VEOR V19.B16, V19.B16, V19.B16
four:
	VLD1.P 16(R1), [V0.S4]
	VLD1.P 16(R5), [V8.S4]
	VLD1.P 16(R6), [V10.S4]
	VLD1.P 16(R7), [V12.S4]
	VLD1.P 16(R8), [V14.S4]
	QUAD(V0, V8, V10, V12, V14, V16, V17, V18, V19)
	SUBS $4, R10
	BNE four
	FADDP4S(17, 16, 0)
	FADDP4S(19, 18, 1)
	FADDP4S(1, 0, 8)
	VST1 [V8.S4], (R0)
	RET
