/* A CUDA runtime and driver without a GPU, for torch's CUDA build to run on.
 *
 * "Device" memory is RAM, streams and events are always done, kernels do nothing. What a GPU would
 * be asked to do is counted, over all threads; dry_run_counts() gives the counters:
 *
 *     0  kernels launched
 *     1  copies and fills within the device
 *     2  copies from pinned memory to the device
 *     3  copies from other memory to the device, for which the host waits
 *     4  copies from the device to pinned memory
 *     5  copies from the device to other memory, for which the host waits
 *     6  waits of the host for a stream, an event or the device
 *
 * DRY_RUN_GPUS says how many GPUs there seem to be (1). Functions that torch does not call in
 * training are missing: whoever calls one learns its name from the dynamic linker.
 */
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { KERNELS, WITHIN, FROM_PINNED, FROM_PAGEABLE, TO_PINNED, TO_PAGEABLE, WAITS, COUNTERS };
static atomic_long counters[COUNTERS];
static _Thread_local int device = 0;

void dry_run_counts(long counts[COUNTERS]) {
    for (int i = 0; i < COUNTERS; i++) counts[i] = counters[i];
}

/* Memory: every allocation is remembered, because copies are told apart by where they go. */

typedef struct Block {
    char *start, *end;
    void *owned; /* what to free */
    int pinned, device;
    struct Block *next;
} Block;
static Block *blocks = NULL;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static cudaError_t allocate(void **pointer, size_t size, int pinned) {
    Block *block = malloc(sizeof *block);
    block->owned = calloc(1, size + 1024);
    block->start = (char *)(((size_t)block->owned + 511) & ~(size_t)511);
    block->end = block->start + size;
    block->pinned = pinned;
    block->device = device;
    pthread_mutex_lock(&lock);
    block->next = blocks;
    blocks = block;
    pthread_mutex_unlock(&lock);
    *pointer = block->start;
    return cudaSuccess;
}

static cudaError_t release(void *pointer) {
    pthread_mutex_lock(&lock);
    for (Block **link = &blocks; *link; link = &(*link)->next)
        if ((*link)->start == pointer) {
            Block *block = *link;
            *link = block->next;
            free(block->owned);
            free(block);
            break;
        }
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

static enum cudaMemoryType kind_of(const void *pointer, int *on) {
    enum cudaMemoryType kind = cudaMemoryTypeUnregistered;
    pthread_mutex_lock(&lock);
    for (Block *block = blocks; block; block = block->next)
        if (block->start <= (char *)pointer && (char *)pointer < block->end) {
            kind = block->pinned ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
            *on = block->device;
        }
    pthread_mutex_unlock(&lock);
    return kind;
}

cudaError_t cudaMalloc(void **pointer, size_t size) { return allocate(pointer, size, 0); }
cudaError_t cudaFree(void *pointer) { return release(pointer); }
cudaError_t cudaHostAlloc(void **pointer, size_t size, unsigned flags) { return allocate(pointer, size, 1); }
cudaError_t cudaFreeHost(void *pointer) { return release(pointer); }
cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    *available = *total = 80UL << 30;
    return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *pointer) {
    memset(found, 0, sizeof *found);
    found->type = kind_of(pointer, &found->device);
    if (found->type != cudaMemoryTypeUnregistered) found->hostPointer = found->devicePointer = (void *)pointer;
    return cudaSuccess;
}
cudaError_t cudaHostGetDevicePointer(void **there, void *here, unsigned flags) {
    *there = here;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(
    void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t stream) {
    int on;
    enum cudaMemoryType source = kind_of(from, &on), target = kind_of(to, &on);
    if (source == cudaMemoryTypeDevice)
        counters[target == cudaMemoryTypeDevice ? WITHIN
                 : target == cudaMemoryTypeHost ? TO_PINNED
                                                : TO_PAGEABLE]++;
    else
        counters[source == cudaMemoryTypeHost ? FROM_PINNED : FROM_PAGEABLE]++;
    memcpy(to, from, size);
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind) {
    counters[WAITS]++;
    return cudaMemcpyAsync(to, from, size, kind, NULL);
}
cudaError_t cudaMemsetAsync(void *at, int value, size_t size, cudaStream_t stream) {
    counters[WITHIN]++;
    memset(at, value, size);
    return cudaSuccess;
}

/* Kernels */

static cudaError_t launched(void) {
    counters[KERNELS]++;
    return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void *f, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) { return launched(); }
cudaError_t __cudaLaunchKernel(cudaKernel_t f, dim3 grid, dim3 block, void **arguments, size_t shared, cudaStream_t stream) { return launched(); }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *f, void **arguments) { return launched(); }
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *f) {
    *kernel = (cudaKernel_t)f;
    return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *found, const void *f) {
    memset(found, 0, sizeof *found);
    found->maxThreadsPerBlock = 1024;
    found->binaryVersion = found->ptxVersion = 90;
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void *f, enum cudaFuncAttribute attribute, int value) { return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks_, const void *f, int threads, size_t shared) {
    *blocks_ = 2;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks_, const void *f, int threads, size_t shared, unsigned flags) {
    *blocks_ = 2;
    return cudaSuccess;
}

/* Streams and events */

static cudaError_t waited(void) {
    counters[WAITS]++;
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void) { return waited(); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return waited(); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return waited(); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
    *stream = malloc(8);
    return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) { return cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(
    cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id, cudaGraph_t *graph,
    const cudaGraphNode_t **nodes, const cudaGraphEdgeData **edges, size_t *count) {
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    *event = malloc(8);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    free(event);
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return cudaSuccess; }
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
    *milliseconds = 0;
    return cudaSuccess;
}

/* The machine */

cudaError_t cudaGetDeviceCount(int *count) {
    const char *given = getenv("DRY_RUN_GPUS");
    *count = given ? atoi(given) : 1;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *number) {
    *number = device;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int number) {
    device = number;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *found, int number) {
    memset(found, 0, sizeof *found);
    strcpy(found->name, "no GPU (dry run)");
    found->totalGlobalMem = 80UL << 30;
    found->major = 9;
    found->multiProcessorCount = 132;
    found->warpSize = 32;
    found->maxThreadsPerBlock = 1024;
    found->maxThreadsDim[0] = found->maxThreadsDim[1] = 1024;
    found->maxThreadsDim[2] = 64;
    found->maxGridSize[0] = 2147483647;
    found->maxGridSize[1] = found->maxGridSize[2] = 65535;
    found->maxThreadsPerMultiProcessor = 2048;
    found->regsPerBlock = 65536;
    found->sharedMemPerBlock = 49152;
    found->sharedMemPerBlockOptin = 232448;
    found->sharedMemPerMultiprocessor = 233472;
    found->l2CacheSize = 50 << 20;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int number) {
    *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : attribute == cudaDevAttrMultiProcessorCount ? 132 : 1;
    return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int *can, int from, int to) {
    *can = 0;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
cudaError_t cudaPeekAtLastError(void) { return cudaSuccess; }

/* The driver, as far as torch asks it */

static int nothing(void) { return 0; }
int cuDevicePrimaryCtxGetState(int number, unsigned *flags, int *active) {
    if (flags) *flags = 0;
    if (active) *active = 1;
    return 0;
}
cudaError_t cudaGetDriverEntryPointByVersion(
    const char *name, void **function, unsigned version, unsigned long long flags,
    enum cudaDriverEntryPointQueryResult *result) {
    *function = !strcmp(name, "cuDevicePrimaryCtxGetState") ? (void *)cuDevicePrimaryCtxGetState : (void *)nothing;
    if (result) *result = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}
