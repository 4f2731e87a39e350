//go:build !noasm

#include "textflag.h"
#include "neon_arm64.h"

// func neonScore4x16(y *float32, yStride int, q *float32, qStride int, k *float32, n int)
// multiplies four heads of n values, qStride bytes apart, by sixteen keys, whose first values come first, and writes sixteen
// results a head, yStride bytes apart. n is at least 1.
TEXT ·neonScore4x16(SB), NOSPLIT, $0-48
	MOVD y+0(FP), R0
	MOVD yStride+8(FP), R1
	MOVD q+16(FP), R2
	MOVD qStride+24(FP), R6
	MOVD k+32(FP), R7
	MOVD n+40(FP), R8
	ADD R6, R2, R3
	ADD R6, R3, R4
	ADD R6, R4, R5
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
value:
	VLD1.P 64(R7), [V0.S4, V1.S4, V2.S4, V3.S4]
	VLD1R.P 4(R2), [V4.S4]
	VLD1R.P 4(R3), [V5.S4]
	VLD1R.P 4(R4), [V6.S4]
	VLD1R.P 4(R5), [V7.S4]
	QUAD(V4, V0, V1, V2, V3, V16, V17, V18, V19)
	QUAD(V5, V0, V1, V2, V3, V20, V21, V22, V23)
	QUAD(V6, V0, V1, V2, V3, V24, V25, V26, V27)
	QUAD(V7, V0, V1, V2, V3, V28, V29, V30, V31)
	SUBS $1, R8
	BNE value
	VST1 [V16.S4, V17.S4, V18.S4, V19.S4], (R0)
	ADD R1, R0
	VST1 [V20.S4, V21.S4, V22.S4, V23.S4], (R0)
	ADD R1, R0
	VST1 [V24.S4, V25.S4, V26.S4, V27.S4], (R0)
	ADD R1, R0
	VST1 [V28.S4, V29.S4, V30.S4, V31.S4], (R0)
	RET

// func neonScore1x16(y, q, k *float32, n int)
// As neonScore4x16, for one head.
TEXT ·neonScore1x16(SB), NOSPLIT, $0-32
	MOVD y+0(FP), R0
	MOVD q+8(FP), R2
	MOVD k+16(FP), R7
	MOVD n+24(FP), R8
	VEOR V16.B16, V16.B16, V16.B16
	VEOR V17.B16, V17.B16, V17.B16
	VEOR V18.B16, V18.B16, V18.B16
	VEOR V19.B16, V19.B16, V19.B16
value:
	VLD1.P 64(R7), [V0.S4, V1.S4, V2.S4, V3.S4]
	VLD1R.P 4(R2), [V4.S4]
	QUAD(V4, V0, V1, V2, V3, V16, V17, V18, V19)
	SUBS $1, R8
	BNE value
	VST1 [V16.S4, V17.S4, V18.S4, V19.S4], (R0)
	RET

// func neonMix64(a, v *float32, stride int, weights *float32, n int)
// adds weights[i] times 64 values of row i of v to a.
TEXT ·neonMix64(SB), NOSPLIT, $0-40
	MOVD a+0(FP), R0
	MOVD v+8(FP), R1
	MOVD stride+16(FP), R2
	MOVD weights+24(FP), R3
	MOVD n+32(FP), R4
	MOVD R0, R5
	VLD1.P 64(R5), [V0.S4, V1.S4, V2.S4, V3.S4]
	VLD1.P 64(R5), [V4.S4, V5.S4, V6.S4, V7.S4]
	VLD1.P 64(R5), [V8.S4, V9.S4, V10.S4, V11.S4]
	VLD1.P 64(R5), [V12.S4, V13.S4, V14.S4, V15.S4]
row:
	VLD1R (R3), [V24.S4]
	ADD $4, R3
	MOVD R1, R5
	VLD1.P 64(R5), [V16.S4, V17.S4, V18.S4, V19.S4]
	VLD1.P 64(R5), [V20.S4, V21.S4, V22.S4, V23.S4]
	QUAD(V24, V16, V17, V18, V19, V0, V1, V2, V3)
	QUAD(V24, V20, V21, V22, V23, V4, V5, V6, V7)
	VLD1.P 64(R5), [V16.S4, V17.S4, V18.S4, V19.S4]
	VLD1.P 64(R5), [V20.S4, V21.S4, V22.S4, V23.S4]
	QUAD(V24, V16, V17, V18, V19, V8, V9, V10, V11)
	QUAD(V24, V20, V21, V22, V23, V12, V13, V14, V15)
	ADD R2, R1
	SUBS $1, R4
	BNE row
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R0)
	VST1.P [V4.S4, V5.S4, V6.S4, V7.S4], 64(R0)
	VST1.P [V8.S4, V9.S4, V10.S4, V11.S4], 64(R0)
	VST1.P [V12.S4, V13.S4, V14.S4, V15.S4], 64(R0)
	RET
