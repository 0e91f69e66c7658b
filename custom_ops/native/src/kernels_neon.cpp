#include "simd_neon.h"

#define NATIVE_ISA neon
#include "kernels.inl"
