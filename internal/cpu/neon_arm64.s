//go:build !noasm

#include "textflag.h"
#include "neon_arm64.h"

// Decoding of 32 weights at p, past which p moves, to V0..V7. s points at their scale where it is stored apart. V20..V30 and
// R19 are scratch; R20 holds mxfp4 tables and V31 the mask of a low nibble.

#define DECODE_F32(p, s) \
	VLD1.P 64(p), [V0.B16, V1.B16, V2.B16, V3.B16]; \
	VLD1.P 64(p), [V4.B16, V5.B16, V6.B16, V7.B16]

#define DECODE_BF16(p, s) \
	VLD1.P 64(p), [V20.B16, V21.B16, V22.B16, V23.B16]; \
	SHLL4S(20, 0); SHLL24S(20, 1); SHLL4S(21, 2); SHLL24S(21, 3); \
	SHLL4S(22, 4); SHLL24S(22, 5); SHLL4S(23, 6); SHLL24S(23, 7)

#define DECODE_F16(p, s) \
	VLD1.P 64(p), [V20.B16, V21.B16, V22.B16, V23.B16]; \
	FCVTL4S(20, 0); FCVTL24S(20, 1); FCVTL4S(21, 2); FCVTL24S(21, 3); \
	FCVTL4S(22, 4); FCVTL24S(22, 5); FCVTL4S(23, 6); FCVTL24S(23, 7)

#define DECODE_Q8_0(p, s) \
	VLD1R (p), [V30.H8]; \
	ADD $2, p; \
	VLD1.P 32(p), [V20.B16, V21.B16]; \
	FCVTL4S(30, 30); \
	SXTL8H(20, 22); SXTL28H(20, 23); SXTL8H(21, 24); SXTL28H(21, 25); \
	SXTL4S(22, 0); SXTL24S(22, 1); SXTL4S(23, 2); SXTL24S(23, 3); \
	SXTL4S(24, 4); SXTL24S(24, 5); SXTL4S(25, 6); SXTL24S(25, 7); \
	SCVTF4S(0, 0); SCVTF4S(1, 1); SCVTF4S(2, 2); SCVTF4S(3, 3); \
	SCVTF4S(4, 4); SCVTF4S(5, 5); SCVTF4S(6, 6); SCVTF4S(7, 7); \
	FMUL4S(30, 0, 0); FMUL4S(30, 1, 1); FMUL4S(30, 2, 2); FMUL4S(30, 3, 3); \
	FMUL4S(30, 4, 4); FMUL4S(30, 5, 5); FMUL4S(30, 6, 6); FMUL4S(30, 7, 7)

// LOOKUP_MXFP4 takes codes 0..15 in V21 and 16..31 in V22, and the scale in R19: the low and the high bytes of the values as
// bfloat16 come from that scale's table.
#define LOOKUP_MXFP4 \
	ADD R19<<5, R20, R19; \
	VLD1 (R19), [V26.B16, V27.B16]; \
	VTBL V21.B16, [V26.B16], V23.B16; \
	VTBL V21.B16, [V27.B16], V24.B16; \
	VTBL V22.B16, [V26.B16], V28.B16; \
	VTBL V22.B16, [V27.B16], V29.B16; \
	VZIP1 V24.B16, V23.B16, V25.B16; \
	VZIP2 V24.B16, V23.B16, V23.B16; \
	VZIP1 V29.B16, V28.B16, V24.B16; \
	VZIP2 V29.B16, V28.B16, V28.B16; \
	SHLL4S(25, 0); SHLL24S(25, 1); SHLL4S(23, 2); SHLL24S(23, 3); \
	SHLL4S(24, 4); SHLL24S(24, 5); SHLL4S(28, 6); SHLL24S(28, 7)

// NIBBLES splits the bytes of V20: low codes to V21, high ones to V22.
#define NIBBLES \
	VAND V31.B16, V20.B16, V21.B16; \
	VUSHR $4, V20.B16, V22.B16

// LOW_FIRST and HIGH_FIRST put the codes in the order of their elements.
#define LOW_FIRST \
	VZIP1 V22.B16, V21.B16, V23.B16; \
	VZIP2 V22.B16, V21.B16, V22.B16; \
	VMOV V23.B16, V21.B16
#define HIGH_FIRST \
	VZIP1 V21.B16, V22.B16, V23.B16; \
	VZIP2 V21.B16, V22.B16, V22.B16; \
	VMOV V23.B16, V21.B16

#define DECODE_MXFP4(p, s) \
	MOVBU.P 1(s), R19; \
	VLD1.P 16(p), [V20.B16]; \
	NIBBLES; LOW_FIRST; LOOKUP_MXFP4

#define DECODE_MXFP4GGML(p, s) \
	MOVBU.P 1(p), R19; \
	VLD1.P 16(p), [V20.B16]; \
	NIBBLES; LOOKUP_MXFP4

#define DECODE_MXFP4OLLAMA(p, s) \
	MOVBU.P 1(p), R19; \
	VLD1.P 16(p), [V20.B16]; \
	NIBBLES; LOW_FIRST; LOOKUP_MXFP4

// MULTIPLY adds V0..V7 times 32 activations in V8..V15 to a, lane by lane, in order: the order of mul4x4.
#define MULTIPLY(a) \
	VFMLA V0.S4, V8.S4, a.S4; VFMLA V1.S4, V9.S4, a.S4; VFMLA V2.S4, V10.S4, a.S4; VFMLA V3.S4, V11.S4, a.S4; \
	VFMLA V4.S4, V12.S4, a.S4; VFMLA V5.S4, V13.S4, a.S4; VFMLA V6.S4, V14.S4, a.S4; VFMLA V7.S4, V15.S4, a.S4

#define CLEAR_SUMS \
	VEOR V16.B16, V16.B16, V16.B16; VEOR V17.B16, V17.B16, V17.B16; \
	VEOR V18.B16, V18.B16, V18.B16; VEOR V19.B16, V19.B16, V19.B16

// STORE_SUMS writes the sums of V16..V19's lanes: (0+1)+(2+3).
#define STORE_SUMS(y) \
	FADDP4S(17, 16, 20); FADDP4S(19, 18, 21); FADDP4S(21, 20, 22); \
	VST1 [V22.S4], (y)

// func neonDot...(y, x *float32, data *byte, stride int, scales *byte, scaleStride, blocks int, tables *[256][32]byte)
#define DOT(DECODE) \
	MOVD y+0(FP), R0; \
	MOVD x+8(FP), R1; \
	MOVD data+16(FP), R4; \
	MOVD stride+24(FP), R2; \
	MOVD scales+32(FP), R8; \
	MOVD scaleStride+40(FP), R3; \
	MOVD blocks+48(FP), R12; \
	MOVD tables+56(FP), R20; \
	ADD R2, R4, R5; \
	ADD R2, R5, R6; \
	ADD R2, R6, R7; \
	ADD R3, R8, R9; \
	ADD R3, R9, R10; \
	ADD R3, R10, R11; \
	VMOVI $15, V31.B16; \
	CLEAR_SUMS; \
block: \
	VLD1.P 64(R1), [V8.S4, V9.S4, V10.S4, V11.S4]; \
	VLD1.P 64(R1), [V12.S4, V13.S4, V14.S4, V15.S4]; \
	DECODE(R4, R8); MULTIPLY(V16); \
	DECODE(R5, R9); MULTIPLY(V17); \
	DECODE(R6, R10); MULTIPLY(V18); \
	DECODE(R7, R11); MULTIPLY(V19); \
	SUBS $1, R12; \
	BNE block; \
	STORE_SUMS(R0); \
	RET

// func neonDecode...(dst *float32, data, scales *byte, blocks int, tables *[256][32]byte)
#define DECODE_ALL(DECODE) \
	MOVD dst+0(FP), R0; \
	MOVD data+8(FP), R4; \
	MOVD scales+16(FP), R8; \
	MOVD blocks+24(FP), R12; \
	MOVD tables+32(FP), R20; \
	VMOVI $15, V31.B16; \
block: \
	DECODE(R4, R8); \
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R0); \
	VST1.P [V4.S4, V5.S4, V6.S4, V7.S4], 64(R0); \
	SUBS $1, R12; \
	BNE block; \
	RET

TEXT ·neonDotF32(SB), NOSPLIT, $0-64
	DOT(DECODE_F32)

TEXT ·neonDotBF16(SB), NOSPLIT, $0-64
	DOT(DECODE_BF16)

TEXT ·neonDotF16(SB), NOSPLIT, $0-64
	DOT(DECODE_F16)

TEXT ·neonDotQ8_0(SB), NOSPLIT, $0-64
	DOT(DECODE_Q8_0)

TEXT ·neonDotMXFP4(SB), NOSPLIT, $0-64
	DOT(DECODE_MXFP4)

TEXT ·neonDotMXFP4GGML(SB), NOSPLIT, $0-64
	DOT(DECODE_MXFP4GGML)

TEXT ·neonDotMXFP4Ollama(SB), NOSPLIT, $0-64
	DOT(DECODE_MXFP4OLLAMA)

TEXT ·neonDecodeF32(SB), NOSPLIT, $0-40
	DECODE_ALL(DECODE_F32)

TEXT ·neonDecodeBF16(SB), NOSPLIT, $0-40
	DECODE_ALL(DECODE_BF16)

TEXT ·neonDecodeF16(SB), NOSPLIT, $0-40
	DECODE_ALL(DECODE_F16)

TEXT ·neonDecodeQ8_0(SB), NOSPLIT, $0-40
	DECODE_ALL(DECODE_Q8_0)

TEXT ·neonDecodeMXFP4(SB), NOSPLIT, $0-40
	DECODE_ALL(DECODE_MXFP4)

TEXT ·neonDecodeMXFP4GGML(SB), NOSPLIT, $0-40
	DECODE_ALL(DECODE_MXFP4GGML)

TEXT ·neonDecodeMXFP4Ollama(SB), NOSPLIT, $0-40
	DECODE_ALL(DECODE_MXFP4OLLAMA)
