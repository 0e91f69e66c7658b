#include "simd_avx512.h"

#define NATIVE_ISA avx512
#include "kernels.inl"
