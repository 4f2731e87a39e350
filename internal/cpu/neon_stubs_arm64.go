//go:build !noasm

package cpu

// The dots multiply four rows, stride bytes apart, of 32*blocks weights each by x and write four results. Scales of a format
// that has them apart are scaleStride bytes from row to row; tables is mxfp4Bytes for the formats that look values up.

//go:noescape
func neonDotF32(y, x *float32, data *byte, stride int, scales *byte, scaleStride, blocks int, tables *[256][32]byte)

//go:noescape
func neonDotBF16(y, x *float32, data *byte, stride int, scales *byte, scaleStride, blocks int, tables *[256][32]byte)

//go:noescape
func neonDotF16(y, x *float32, data *byte, stride int, scales *byte, scaleStride, blocks int, tables *[256][32]byte)

//go:noescape
func neonDotQ8_0(y, x *float32, data *byte, stride int, scales *byte, scaleStride, blocks int, tables *[256][32]byte)

//go:noescape
func neonDotMXFP4(y, x *float32, data *byte, stride int, scales *byte, scaleStride, blocks int, tables *[256][32]byte)

//go:noescape
func neonDotMXFP4GGML(y, x *float32, data *byte, stride int, scales *byte, scaleStride, blocks int, tables *[256][32]byte)

//go:noescape
func neonDotMXFP4Ollama(y, x *float32, data *byte, stride int, scales *byte, scaleStride, blocks int, tables *[256][32]byte)

// The decoders write 32*blocks consecutive weights as float32.

//go:noescape
func neonDecodeF32(dst *float32, data, scales *byte, blocks int, tables *[256][32]byte)

//go:noescape
func neonDecodeBF16(dst *float32, data, scales *byte, blocks int, tables *[256][32]byte)

//go:noescape
func neonDecodeF16(dst *float32, data, scales *byte, blocks int, tables *[256][32]byte)

//go:noescape
func neonDecodeQ8_0(dst *float32, data, scales *byte, blocks int, tables *[256][32]byte)

//go:noescape
func neonDecodeMXFP4(dst *float32, data, scales *byte, blocks int, tables *[256][32]byte)

//go:noescape
func neonDecodeMXFP4GGML(dst *float32, data, scales *byte, blocks int, tables *[256][32]byte)

//go:noescape
func neonDecodeMXFP4Ollama(dst *float32, data, scales *byte, blocks int, tables *[256][32]byte)

// neonDotCodes multiplies four rows of blocks of 32*units codes of four bits each by x; strides are in bytes. Table times
// scale is rounded to float32, float16 or bfloat16: 0, 1 or 2.
//
//go:noescape
func neonDotCodes(y, x *float32, table *[16]float32, data *byte, stride int, scales *float32, scaleStride, blocks, units, round int)

//go:noescape
func neonDecodeCodes(dst *float32, table *[16]float32, data *byte, scales *float32, blocks, units, round int)

//go:noescape
func neonMul4x4(out *[16]float32, x0, x1, x2, x3, w *float32, wStride, n int)

//go:noescape
func neonMul1x4(out *[16]float32, x, w *float32, wStride, n int)

//go:noescape
func neonScore4x16(y *float32, yStride int, q *float32, qStride int, k *float32, n int)

//go:noescape
func neonScore1x16(y, q, k *float32, n int)

//go:noescape
func neonMix64(a, v *float32, stride int, weights *float32, n int)
