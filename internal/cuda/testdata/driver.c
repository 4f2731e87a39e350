// A CUDA driver of the C side for bind_linux_test.go: it has the signatures of the real one, checks every argument, and
// runs nothing. Device memory is host memory.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef uint64_t Pointer;
typedef void *Handle;

enum { ok, badValue, badContext = 201, badPTX = 218, notReady = 600 };
static const Handle theContext = (Handle)0x1234, theStream = (Handle)77;
static const int theDevice = 7;
static __thread Handle current;

#define CONTEXT if (current != theContext) return badContext
#define CHECK(c) if (!(c)) return badValue
#define STREAM(s) CONTEXT; CHECK(s == theStream)

Result cuGetErrorName(int code, const char **name) {
  *name = code == badContext ? "CUDA_ERROR_INVALID_CONTEXT" : code == badPTX ? "CUDA_ERROR_INVALID_PTX" : 0;
  return *name ? ok : badValue;
}
Result cuInit(unsigned flags) { CHECK(flags == 0); return ok; }
Result cuDriverGetVersion(int *v) { *v = 12040; return ok; }
Result cuDeviceGetCount(int *n) { *n = 1; return ok; }
Result cuDeviceGet(int *device, int ordinal) { *device = theDevice + ordinal; return ok; }
Result cuDeviceGetName(char *name, int n, int device) {
  CHECK(device == theDevice && n > 16);
  strcpy(name, "Card of testdata");
  return ok;
}
Result cuDeviceTotalMem_v2(size_t *n, int device) { CHECK(device == theDevice); *n = (size_t)24 << 30; return ok; }
Result cuDeviceGetAttribute(int *v, int a, int device) {
  CHECK(device == theDevice);
  switch (a) {
  case 16: *v = 82; break;
  case 75: *v = 9; break;
  case 76: *v = 0; break;
  case 97: *v = 99 << 10; break;
  default: *v = 0;
  }
  return ok;
}
Result cuDevicePrimaryCtxRetain(Handle *c, int device) { CHECK(device == theDevice); *c = theContext; return ok; }
Result cuDevicePrimaryCtxRelease_v2(int device) { CHECK(device == theDevice); return ok; }
Result cuCtxSetCurrent(Handle c) { CHECK(c == theContext); current = c; return ok; }
Result cuMemGetInfo_v2(size_t *free, size_t *total) {
  CONTEXT;
  *free = (size_t)20 << 30;
  *total = (size_t)24 << 30;
  return ok;
}

Result cuMemAlloc_v2(Pointer *p, size_t n) { CONTEXT; *p = (Pointer)calloc(n, 1); return ok; }
Result cuMemFree_v2(Pointer p) { CONTEXT; free((void *)p); return ok; }
Result cuMemHostAlloc(Handle *p, size_t n, unsigned flags) {
  CONTEXT;
  CHECK(flags == 0 || flags == 2);
  *p = malloc(n);
  return ok;
}
Result cuMemFreeHost(Handle p) { CONTEXT; free(p); return ok; }
Result cuMemHostGetDevicePointer_v2(Pointer *d, Handle p, unsigned flags) { CONTEXT; CHECK(flags == 0); *d = (Pointer)p; return ok; }
Result cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t n, Handle s) { STREAM(s); memcpy((void *)to, from, n); return ok; }
Result cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t n, Handle s) { STREAM(s); memcpy(to, (void *)from, n); return ok; }
Result cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t n, Handle s) { STREAM(s); memcpy((void *)to, (void *)from, n); return ok; }
Result cuMemsetD8Async(Pointer p, unsigned char v, size_t n, Handle s) { STREAM(s); memset((void *)p, v, n); return ok; }

// The linker keeps the addresses of its options until it is destroyed, as the real one does, and its result too.
struct Link {
  char *log, *text;
  size_t size;
};
static int logOptions(unsigned n, const int *options, void *const *values, char **log) {
  *log = values[0];
  return n == 2 && options[0] == 5 && options[1] == 6 && (size_t)values[1] == 16384;
}
Result cuLinkCreate_v2(unsigned n, const int *options, void *const *values, Handle *state) {
  CONTEXT;
  struct Link *l = calloc(1, sizeof *l);
  *state = l;
  CHECK(logOptions(n, options, values, &l->log));
  return ok;
}
Result cuLinkAddData_v2(Handle state, int type, const char *text, size_t size, const char *name, unsigned n, const int *o, void *const *v) {
  CONTEXT;
  struct Link *l = state;
  CHECK(type == 1 && n == 0 && !o && !v && strcmp(name, "ptx") == 0 && text[size - 1] == 0);
  if (!strstr(text, ".version 7.0") && !strstr(text, ".version 7.8")) {
    strcpy(l->log, "ptxas fatal: no version");
    return badPTX;
  }
  l->size = size - 1;
  l->text = memcpy(malloc(size), text, size);
  return ok;
}
Result cuLinkComplete(Handle state, void **image, size_t *size) {
  CONTEXT;
  struct Link *l = state;
  *image = l->text;
  *size = l->size;
  return ok;
}
Result cuLinkDestroy(Handle state) {
  CONTEXT;
  struct Link *l = state;
  if (l->text) memset(l->text, 0, l->size);
  free(l->text);
  free(l);
  return ok;
}

struct Function {
  unsigned shared;
};
Result cuModuleLoadDataEx(Handle *m, const char *image, unsigned n, const int *options, void *const *values) {
  CONTEXT;
  char *log;
  CHECK(logOptions(n, options, values, &log) && strncmp(image, "// hearth kernels: ", 19) == 0);
  *m = malloc(1);
  return ok;
}
Result cuModuleUnload(Handle m) { CONTEXT; free(m); return ok; }
Result cuModuleGetFunction(Handle *f, Handle m, const char *name) {
  CONTEXT;
  CHECK(m && strlen(name) > 2);
  struct Function *x = calloc(1, sizeof *x);
  x->shared = 48 << 10;
  *f = x;
  return ok;
}
Result cuFuncGetAttribute(int *v, int a, Handle f) { CONTEXT; CHECK(f); *v = a == 4 ? 40 : 0; return ok; }
Result cuFuncSetAttribute(Handle f, int a, int v) { CONTEXT; CHECK(a == 8 || (a == 9 && v == 50)); if (a == 8) ((struct Function *)f)->shared = v; return ok; }
static int launches;
Result cuLaunchKernel(Handle f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, Handle s, void **params, void **extra) {
  STREAM(s);
  CHECK(gx && gy && gz && gy < 65536 && gz < 65536 && bx && by == 1 && bz == 1 && bx <= 1024 && bx % 32 == 0);
  CHECK(shared <= ((struct Function *)f)->shared && params && params[0] && !extra);
  launches++;
  return ok;
}
int launchesSoFar(void) { return launches; }
struct Attribute {
  int id;
  char pad[8 - sizeof(int)];
  union {
    char room[64];
    int serialization;
  } value;
};
struct Config {
  unsigned gx, gy, gz, bx, by, bz, shared;
  Handle stream;
  struct Attribute *attributes;
  unsigned count;
};
static int overlapping;
Result cuLaunchKernelEx(const struct Config *c, Handle f, void **params, void **extra) {
  CHECK(c->count == 1 && c->attributes->id == 6 && c->attributes->value.serialization == 1);
  overlapping++;
  return cuLaunchKernel(f, c->gx, c->gy, c->gz, c->bx, c->by, c->bz, c->shared, c->stream, params, extra);
}
int overlappingSoFar(void) { return overlapping; }

Result cuStreamCreate(Handle *s, unsigned flags) { CONTEXT; CHECK(flags == 1); *s = theStream; return ok; }
Result cuStreamDestroy_v2(Handle s) { STREAM(s); return ok; }
Result cuStreamQuery(Handle s) {
  static int asked;
  STREAM(s);
  return asked++ % 3 ? ok : notReady;
}
Result cuEventCreate(Handle *e, unsigned flags) { CONTEXT; CHECK(flags == 0); *e = malloc(1); return ok; }
Result cuEventDestroy_v2(Handle e) { CONTEXT; free(e); return ok; }
Result cuEventRecord(Handle e, Handle s) { STREAM(s); CHECK(e); return ok; }
Result cuEventQuery(Handle e) { CONTEXT; CHECK(e); return ok; }
Result cuEventElapsedTime(float *ms, Handle from, Handle to) { CONTEXT; CHECK(from && to); *ms = 1.5f; return ok; }

static int captures;
Result cuStreamBeginCapture_v2(Handle s, int mode) { STREAM(s); CHECK(mode == 2); return ok; }
Result cuStreamEndCapture(Handle s, Handle *g) { STREAM(s); *g = malloc(1); return ok; }
Result cuGraphInstantiate_v2(Handle *exec, Handle g, Handle *node, char *log, size_t size) {
  CONTEXT;
  CHECK(g && node && size == 16384);
  log[0] = log[size - 1] = 0;
  *exec = malloc(1);
  return ok;
}
Result cuGraphLaunch(Handle exec, Handle s) { STREAM(s); CHECK(exec); captures++; return ok; }
Result cuGraphDestroy(Handle g) { CONTEXT; free(g); return ok; }
Result cuGraphExecDestroy(Handle exec) { CONTEXT; free(exec); return ok; }
int replaysSoFar(void) { return captures; }
