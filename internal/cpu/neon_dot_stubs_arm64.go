//go:build !noasm

package cpu

// The loops multiply rows of 64*steps weights, one after another in memory, by one or four rows of rounded activations and
// write the results of each of these stride bytes behind those of the one before. halves is halfE8M0, codes twiceE2M1.

//go:noescape
func neonInt8MXFP4x1(y *float32, stride int, x *int8Step, data, scales *byte, rows, steps int, halves *[256]float32, codes *[16]int8)

//go:noescape
func neonInt8MXFP4GGMLx1(y *float32, stride int, x *int8Step, data, scales *byte, rows, steps int, halves *[256]float32, codes *[16]int8)

//go:noescape
func neonInt8MXFP4Ollamax1(y *float32, stride int, x *int8Step, data, scales *byte, rows, steps int, halves *[256]float32, codes *[16]int8)

//go:noescape
func neonInt8Q8_0x1(y *float32, stride int, x *int8Step, data, scales *byte, rows, steps int, halves *[256]float32, codes *[16]int8)

//go:noescape
func neonInt8MXFP4x4(y *float32, stride int, x0, x1, x2, x3 *int8Step, data, scales *byte, rows, steps int, halves *[256]float32, codes *[16]int8)

//go:noescape
func neonInt8MXFP4GGMLx4(y *float32, stride int, x0, x1, x2, x3 *int8Step, data, scales *byte, rows, steps int, halves *[256]float32, codes *[16]int8)

//go:noescape
func neonInt8MXFP4Ollamax4(y *float32, stride int, x0, x1, x2, x3 *int8Step, data, scales *byte, rows, steps int, halves *[256]float32, codes *[16]int8)

//go:noescape
func neonInt8Q8_0x4(y *float32, stride int, x0, x1, x2, x3 *int8Step, data, scales *byte, rows, steps int, halves *[256]float32, codes *[16]int8)
