#include "simd_avx2.h"

#define NATIVE_ISA avx2
#include "kernels.inl"
