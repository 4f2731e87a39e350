// Instructions that Go's assembler has no name for, operands in its order: sources before the destination. Numbers stand for
// vector registers.

#define FADD4S(m, n, d) WORD $(0x4E20D400 | (m)<<16 | (n)<<5 | (d))
#define FADDP4S(m, n, d) WORD $(0x6E20D400 | (m)<<16 | (n)<<5 | (d)) // pairs of n, then pairs of m
#define FCVTL24S(n, d) WORD $(0x4E217800 | (n)<<5 | (d))
#define FCVTL4S(n, d) WORD $(0x0E217800 | (n)<<5 | (d)) // low four float16 to float32
#define FCVTN4H(n, d) WORD $(0x0E216800 | (n)<<5 | (d)) // float32 to float16
#define FMUL4S(m, n, d) WORD $(0x6E20DC00 | (m)<<16 | (n)<<5 | (d))
#define SCVTF4S(n, d) WORD $(0x4E21D800 | (n)<<5 | (d))
#define SDOT(m, n, d) WORD $(0x4E809400 | (m)<<16 | (n)<<5 | (d))
#define SHLL24S(n, d) WORD $(0x6E613800 | (n)<<5 | (d)) // high four
#define SHLL4S(n, d) WORD $(0x2E613800 | (n)<<5 | (d)) // low four halves, shifted up by 16: bfloat16 to float32
#define SXTL24S(n, d) WORD $(0x4F10A400 | (n)<<5 | (d))
#define SXTL28H(n, d) WORD $(0x4F08A400 | (n)<<5 | (d))
#define SXTL4S(n, d) WORD $(0x0F10A400 | (n)<<5 | (d))
#define SXTL8H(n, d) WORD $(0x0F08A400 | (n)<<5 | (d))

// QUAD adds one register times four others to four sums.
#define QUAD(x, w0, w1, w2, w3, a, b, c, d) \
	VFMLA w0.S4, x.S4, a.S4; VFMLA w1.S4, x.S4, b.S4; VFMLA w2.S4, x.S4, c.S4; VFMLA w3.S4, x.S4, d.S4
