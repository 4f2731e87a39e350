//go:build !noasm

#include "textflag.h"

// func xgetbv0() uint32
TEXT ·xgetbv0(SB), NOSPLIT, $0-4
	XORL CX, CX
	XGETBV
	MOVL AX, ret+0(FP)
	RET

// func tryTiles() (pid int)
//
// The child calls nothing of Go's: it has one thread and no runtime. Signals' handlers are put back, so that a fault ends
// it, and without a core.
TEXT ·tryTiles(SB), NOSPLIT, $8-8
	MOVQ  $57, AX              // fork
	SYSCALL
	TESTQ AX, AX
	JZ    child
	MOVQ  AX, pid+0(FP)
	RET

child:
	MOVQ   $157, AX            // prctl
	MOVQ   $4, DI              // PR_SET_DUMPABLE
	XORL   SI, SI
	SYSCALL
	MOVQ   $4, DI              // SIGILL
	CALL   ·defaultAction(SB)
	MOVQ   $11, DI             // SIGSEGV
	CALL   ·defaultAction(SB)
	MOVQ   $7, DI              // SIGBUS
	CALL   ·defaultAction(SB)
	MOVQ   $158, AX            // arch_prctl
	MOVQ   $0x1023, DI         // ARCH_REQ_XCOMP_PERM
	MOVQ   $18, SI             // tile data
	SYSCALL
	MOVQ   AX, DI
	TESTQ  AX, AX
	JNZ    leave
	LEAQ   ·tinyTiles(SB), AX
	BYTE   $0xC4; BYTE $0xE2; BYTE $0x78; BYTE $0x49; BYTE $0x00 // LDTILECFG (AX)
	BYTE   $0xC4; BYTE $0xE2; BYTE $0x7B; BYTE $0x49; BYTE $0xC0 // TILEZERO 0
	BYTE   $0xC4; BYTE $0xE2; BYTE $0x7B; BYTE $0x49; BYTE $0xC8 // TILEZERO 1
	BYTE   $0xC4; BYTE $0xE2; BYTE $0x7B; BYTE $0x49; BYTE $0xD0 // TILEZERO 2
	BYTE   $0xC4; BYTE $0xE2; BYTE $0x6A; BYTE $0x5C; BYTE $0xC1 // TDPBF16PS 0 += 1 * 2
	BYTE   $0xC4; BYTE $0xE2; BYTE $0x78; BYTE $0x49; BYTE $0xC0 // TILERELEASE
	XORL   DI, DI

leave:
	MOVQ $231, AX              // exit_group
	SYSCALL
	INT  $3

// defaultAction takes back the handler of signal DI.
TEXT ·defaultAction(SB), NOSPLIT|NOFRAME, $0
	LEAQ ·noAction(SB), SI
	XORL DX, DX
	MOVQ $8, R10
	MOVQ $13, AX               // rt_sigaction
	SYSCALL
	RET

// noAction is the kernel's struct sigaction of SIG_DFL.
GLOBL ·noAction(SB), RODATA|NOPTR, $32

// tinyTiles: palette 1, three tiles of one row of four bytes.
DATA ·tinyTiles+0(SB)/8, $1
DATA ·tinyTiles+16(SB)/8, $0x0000000400040004
DATA ·tinyTiles+48(SB)/8, $0x010101
GLOBL ·tinyTiles(SB), RODATA|NOPTR, $64
