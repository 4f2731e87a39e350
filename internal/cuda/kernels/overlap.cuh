// Programmatic dependent launch: from compute capability 9.0 on, a kernel may begin while the one before it in the stream
// still runs. The two lines below are comments to PTX for 8.0, of which the host makes instructions where the card and the
// driver have them (overlap.go). A kernel that uses them keeps two rules:
//
//   - Before waitForLast it reads only what no kernel since the last ordinary launch has written, and writes nothing.
//     After it, everything that came before is complete: the last kernel too waited before it ended.
//   - At least one of its threads calls waitForLast.
#pragma once
#include "common.cuh"

DEVICE void waitForLast() { asm volatile("// griddepcontrol.wait;" ::: "memory"); }
// The next kernel may begin as soon as every block has said so, or has ended: its blocks take what room there is.
DEVICE void letNextBegin() { asm volatile("// griddepcontrol.launch_dependents;" ::: "memory"); }
