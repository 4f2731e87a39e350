//go:build !noasm

#include "textflag.h"
#include "neon_arm64.h"

// Products of rounded activations with weights that are integers (int8.go), by SDOT, which adds four products of signed
// bytes to a lane of 32 bits. The lanes and their sums are AVX2's, and so are the results.

// A block's weights: the first 16 to low, the last 16 to high, the scale to each lane of scale. R6 is the data, R7 the scales,
// R10 the halves of E8M0's; V30 the mask of a low nibble, V31 the doubled values of codes.

#define CODES \
	VLD1.P 16(R6), [V14.B16]; \
	VAND V30.B16, V14.B16, V15.B16; \
	VUSHR $4, V14.B16, V16.B16; \
	VTBL V15.B16, [V31.B16], V15.B16; \
	VTBL V16.B16, [V31.B16], V16.B16

#define SCALE(p, scale) \
	MOVBU.P 1(p), R19; \
	ADD R19<<2, R10, R19; \
	VLD1R (R19), [scale.S4]

#define BLOCK_MXFP4(low, high, scale) \
	SCALE(R7, scale); CODES; \
	VZIP1 V16.B16, V15.B16, low.B16; \
	VZIP2 V16.B16, V15.B16, high.B16

#define BLOCK_MXFP4GGML(low, high, scale) \
	SCALE(R6, scale); CODES; \
	VMOV V15.B16, low.B16; \
	VMOV V16.B16, high.B16

#define BLOCK_MXFP4OLLAMA(low, high, scale) \
	SCALE(R6, scale); CODES; \
	VZIP1 V16.B16, V15.B16, low.B16; \
	VZIP2 V16.B16, V15.B16, high.B16

#define BLOCK_Q8_0(low, high, scale) \
	VLD1R (R6), [V14.H8]; \
	ADD $2, R6; \
	VLD1.P 32(R6), [V15.B16, V16.B16]; \
	VMOV V15.B16, low.B16; \
	VMOV V16.B16, high.B16; \
	VMOV V14.B16, scale.B16

#define WIDEN_Q8_0 FCVTL4S(4, 4); FCVTL4S(5, 5)
#define WIDEN_NONE

// MULTIPLY takes a step of activations at x, past which x moves, and adds its products to a (first block) and b (second).
#define MULTIPLY(x, a, b) \
	VLD1 (x), [V6.B16, V7.B16, V8.B16, V9.B16]; \
	ADD $96, x, R19; \
	VLD1 (R19), [V10.S4, V11.S4]; \
	ADD $128, x; \
	VEOR V12.B16, V12.B16, V12.B16; \
	VEOR V13.B16, V13.B16, V13.B16; \
	SDOT(6, 0, 12); SDOT(7, 2, 13); SDOT(8, 1, 12); SDOT(9, 3, 13); \
	SCVTF4S(12, 12); SCVTF4S(13, 13); \
	FMUL4S(4, 10, 10); FMUL4S(5, 11, 11); \
	VFMLA V12.S4, V10.S4, a.S4; \
	VFMLA V13.S4, V11.S4, b.S4

#define CLEAR(a, b) \
	VEOR a.B16, a.B16, a.B16; \
	VEOR b.B16, b.B16, b.B16

// TOTAL writes the sum of the lanes of registers a and b to y.
#define TOTAL(a, b, y) \
	FADD4S(b, a, 12); FADDP4S(12, 12, 12); FADDP4S(12, 12, 12); \
	FMOVS F12, (y)

// func neonInt8...x1(y *float32, stride int, x *int8Step, data, scales *byte, rows, steps int, halves *[256]float32, codes *[16]int8)
#define ONE(BLOCK, WIDEN) \
	MOVD y+0(FP), R0; \
	MOVD x+16(FP), R2; \
	MOVD data+24(FP), R6; \
	MOVD scales+32(FP), R7; \
	MOVD rows+40(FP), R8; \
	MOVD steps+48(FP), R9; \
	MOVD halves+56(FP), R10; \
	MOVD codes+64(FP), R11; \
	VLD1 (R11), [V31.B16]; \
	VMOVI $15, V30.B16; \
row: \
	CLEAR(V18, V19); \
	MOVD R2, R11; \
	MOVD R9, R20; \
step: \
	BLOCK(V0, V1, V4); \
	BLOCK(V2, V3, V5); \
	WIDEN; \
	MULTIPLY(R11, V18, V19); \
	SUBS $1, R20, R20; \
	BNE step; \
	TOTAL(18, 19, R0); \
	ADD $4, R0; \
	SUBS $1, R8, R8; \
	BNE row; \
	RET

// func neonInt8...x4(y *float32, stride int, x0, x1, x2, x3 *int8Step, data, scales *byte, rows, steps int, halves *[256]float32, codes *[16]int8)
#define FOUR(BLOCK, WIDEN) \
	MOVD y+0(FP), R0; \
	MOVD stride+8(FP), R1; \
	MOVD x0+16(FP), R2; \
	MOVD x1+24(FP), R3; \
	MOVD x2+32(FP), R4; \
	MOVD x3+40(FP), R5; \
	MOVD data+48(FP), R6; \
	MOVD scales+56(FP), R7; \
	MOVD rows+64(FP), R8; \
	MOVD steps+72(FP), R9; \
	MOVD halves+80(FP), R10; \
	MOVD codes+88(FP), R11; \
	VLD1 (R11), [V31.B16]; \
	VMOVI $15, V30.B16; \
row: \
	CLEAR(V18, V19); CLEAR(V20, V21); CLEAR(V22, V23); CLEAR(V24, V25); \
	MOVD R2, R11; \
	MOVD R3, R12; \
	MOVD R4, R13; \
	MOVD R5, R14; \
	MOVD R9, R20; \
step: \
	BLOCK(V0, V1, V4); \
	BLOCK(V2, V3, V5); \
	WIDEN; \
	MULTIPLY(R11, V18, V19); \
	MULTIPLY(R12, V20, V21); \
	MULTIPLY(R13, V22, V23); \
	MULTIPLY(R14, V24, V25); \
	SUBS $1, R20, R20; \
	BNE step; \
	TOTAL(18, 19, R0); \
	ADD R1, R0, R21; \
	TOTAL(20, 21, R21); \
	ADD R1, R21; \
	TOTAL(22, 23, R21); \
	ADD R1, R21; \
	TOTAL(24, 25, R21); \
	ADD $4, R0; \
	SUBS $1, R8, R8; \
	BNE row; \
	RET

TEXT ·neonInt8MXFP4x1(SB), NOSPLIT, $0-72
	ONE(BLOCK_MXFP4, WIDEN_NONE)

TEXT ·neonInt8MXFP4GGMLx1(SB), NOSPLIT, $0-72
	ONE(BLOCK_MXFP4GGML, WIDEN_NONE)

TEXT ·neonInt8MXFP4Ollamax1(SB), NOSPLIT, $0-72
	ONE(BLOCK_MXFP4OLLAMA, WIDEN_NONE)

TEXT ·neonInt8Q8_0x1(SB), NOSPLIT, $0-72
	ONE(BLOCK_Q8_0, WIDEN_Q8_0)

TEXT ·neonInt8MXFP4x4(SB), NOSPLIT, $0-96
	FOUR(BLOCK_MXFP4, WIDEN_NONE)

TEXT ·neonInt8MXFP4GGMLx4(SB), NOSPLIT, $0-96
	FOUR(BLOCK_MXFP4GGML, WIDEN_NONE)

TEXT ·neonInt8MXFP4Ollamax4(SB), NOSPLIT, $0-96
	FOUR(BLOCK_MXFP4OLLAMA, WIDEN_NONE)

TEXT ·neonInt8Q8_0x4(SB), NOSPLIT, $0-96
	FOUR(BLOCK_Q8_0, WIDEN_Q8_0)
