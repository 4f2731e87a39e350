//go:build !noasm

#include "textflag.h"
#include "neon_arm64.h"

// bitsandbytes' codes. For every block the sixteen values times the block's scale are rounded once and taken apart into tables
// of bytes; a code then looks its value up.

// ROUND_BF16 adds what rounding to the nearest even bfloat16 needs; the upper halves are the result. R15 holds 0x7FFF.
#define ROUND_BF16(r) \
	VUSHR $16, r.S4, V4.S4; \
	VAND V28.B16, V4.B16, V4.B16; \
	VADD V29.S4, V4.S4, V4.S4; \
	VADD V4.S4, r.S4, r.S4

// TABLES makes the byte tables V24..V27, lowest byte first, of V20..V23 (the values of the codes) times the scale at s. V28
// holds 1 and V29 0x7FFF in every lane; R14 is the rounding: 0 float32, 1 float16, 2 bfloat16.
#define TABLES(s, half, whole) \
	VLD1R (s), [V30.S4]; \
	ADD $4, s; \
	FMUL4S(30, 20, 0); FMUL4S(30, 21, 1); FMUL4S(30, 22, 2); FMUL4S(30, 23, 3); \
	CMP $1, R14; \
	BLT whole; \
	BEQ half; \
	ROUND_BF16(V0); ROUND_BF16(V1); ROUND_BF16(V2); ROUND_BF16(V3); \
	B whole; \
half: \
	FCVTN4H(0, 0); FCVTN4H(1, 1); FCVTN4H(2, 2); FCVTN4H(3, 3); \
	FCVTL4S(0, 0); FCVTL4S(1, 1); FCVTL4S(2, 2); FCVTL4S(3, 3); \
whole: \
	VUZP1 V1.H8, V0.H8, V4.H8; \
	VUZP1 V3.H8, V2.H8, V5.H8; \
	VUZP2 V1.H8, V0.H8, V6.H8; \
	VUZP2 V3.H8, V2.H8, V7.H8; \
	VUZP1 V5.B16, V4.B16, V24.B16; \
	VUZP2 V5.B16, V4.B16, V25.B16; \
	VUZP1 V7.B16, V6.B16, V26.B16; \
	VUZP2 V7.B16, V6.B16, V27.B16

// CODES reads 32 codes at p, the high nibble first, in order to V1 and V2.
#define CODES(p) \
	VLD1.P 16(p), [V0.B16]; \
	VAND V31.B16, V0.B16, V3.B16; \
	VUSHR $4, V0.B16, V4.B16; \
	VZIP1 V3.B16, V4.B16, V1.B16; \
	VZIP2 V3.B16, V4.B16, V2.B16

// UPPER looks 16 codes up in the two upper tables: bfloat16, as float32 in V4..V7.
#define UPPER(c) \
	VTBL c.B16, [V26.B16], V4.B16; \
	VTBL c.B16, [V27.B16], V5.B16; \
	VZIP1 V5.B16, V4.B16, V6.B16; \
	VZIP2 V5.B16, V4.B16, V7.B16; \
	SHLL4S(6, 4); SHLL24S(6, 5); SHLL4S(7, 6); SHLL24S(7, 7)

// WHOLE looks 16 codes up in all four tables: float32 in V4..V7. It uses V0, V3 and V30 too.
#define WHOLE(c) \
	VTBL c.B16, [V24.B16], V4.B16; \
	VTBL c.B16, [V25.B16], V5.B16; \
	VTBL c.B16, [V26.B16], V6.B16; \
	VTBL c.B16, [V27.B16], V7.B16; \
	VZIP1 V5.B16, V4.B16, V0.B16; \
	VZIP2 V5.B16, V4.B16, V3.B16; \
	VZIP1 V7.B16, V6.B16, V30.B16; \
	VZIP2 V7.B16, V6.B16, V7.B16; \
	VZIP1 V30.H8, V0.H8, V4.H8; \
	VZIP2 V30.H8, V0.H8, V5.H8; \
	VZIP1 V7.H8, V3.H8, V6.H8; \
	VZIP2 V7.H8, V3.H8, V7.H8

// ADD16 adds V4..V7 times the next 16 activations at R1 to a.
#define ADD16(a) \
	VLD1.P 64(R1), [V8.S4, V9.S4, V10.S4, V11.S4]; \
	VFMLA V4.S4, V8.S4, a.S4; VFMLA V5.S4, V9.S4, a.S4; VFMLA V6.S4, V10.S4, a.S4; VFMLA V7.S4, V11.S4, a.S4

// ROW multiplies one block of a row: R16 times 32 codes at p under the scale at s, activations from R17 on.
#define ROW(p, s, a, half, whole, units, upper, done) \
	TABLES(s, half, whole); \
	MOVD R17, R1; \
	MOVD R16, R13; \
	CMP $2, R14; \
	BEQ upper; \
units: \
	CODES(p); \
	WHOLE(V1); ADD16(a); \
	WHOLE(V2); ADD16(a); \
	SUBS $1, R13; \
	BNE units; \
	B done; \
upper: \
	CODES(p); \
	UPPER(V1); ADD16(a); \
	UPPER(V2); ADD16(a); \
	SUBS $1, R13; \
	BNE upper; \
done:

#define CONSTANTS(table) \
	MOVD table, R15; \
	VLD1 (R15), [V20.S4, V21.S4, V22.S4, V23.S4]; \
	MOVD $1, R15; \
	VDUP R15, V28.S4; \
	MOVD $0x7FFF, R15; \
	VDUP R15, V29.S4; \
	VMOVI $15, V31.B16

// func neonDotCodes(y, x *float32, table *[16]float32, data *byte, stride int, scales *float32, scaleStride, blocks, units, round int)
TEXT ·neonDotCodes(SB), NOSPLIT, $0-80
	MOVD y+0(FP), R0
	MOVD x+8(FP), R17
	CONSTANTS(table+16(FP))
	MOVD data+24(FP), R4
	MOVD stride+32(FP), R2
	MOVD scales+40(FP), R8
	MOVD scaleStride+48(FP), R3
	MOVD blocks+56(FP), R12
	MOVD units+64(FP), R16
	MOVD round+72(FP), R14
	ADD R2, R4, R5
	ADD R2, R5, R6
	ADD R2, R6, R7
	ADD R3, R8, R9
	ADD R3, R9, R10
	ADD R3, R10, R11
	VEOR V16.B16, V16.B16, V16.B16
	VEOR V17.B16, V17.B16, V17.B16
	VEOR V18.B16, V18.B16, V18.B16
	VEOR V19.B16, V19.B16, V19.B16
block:
	ROW(R4, R8, V16, half0, whole0, units0, upper0, done0)
	ROW(R5, R9, V17, half1, whole1, units1, upper1, done1)
	ROW(R6, R10, V18, half2, whole2, units2, upper2, done2)
	ROW(R7, R11, V19, half3, whole3, units3, upper3, done3)
	MOVD R1, R17
	SUBS $1, R12
	BNE block
	FADDP4S(17, 16, 20)
	FADDP4S(19, 18, 21)
	FADDP4S(21, 20, 22)
	VST1 [V22.S4], (R0)
	RET

// func neonDecodeCodes(dst *float32, table *[16]float32, data *byte, scales *float32, blocks, units, round int)
TEXT ·neonDecodeCodes(SB), NOSPLIT, $0-56
	MOVD dst+0(FP), R0
	CONSTANTS(table+8(FP))
	MOVD data+16(FP), R4
	MOVD scales+24(FP), R8
	MOVD blocks+32(FP), R12
	MOVD units+40(FP), R16
	MOVD round+48(FP), R14
block:
	TABLES(R8, half, whole)
	MOVD R16, R13
	CMP $2, R14
	BEQ upper
units:
	CODES(R4)
	WHOLE(V1)
	VST1.P [V4.S4, V5.S4, V6.S4, V7.S4], 64(R0)
	WHOLE(V2)
	VST1.P [V4.S4, V5.S4, V6.S4, V7.S4], 64(R0)
	SUBS $1, R13
	BNE units
	B done
upper:
	CODES(R4)
	UPPER(V1)
	VST1.P [V4.S4, V5.S4, V6.S4, V7.S4], 64(R0)
	UPPER(V2)
	VST1.P [V4.S4, V5.S4, V6.S4, V7.S4], 64(R0)
	SUBS $1, R13
	BNE upper
done:
	SUBS $1, R12
	BNE block
	RET
