#define AVX_VNNI
#include "simd_avx2.h"

#define NATIVE_ISA avxvnni
#include "kernels.inl"
