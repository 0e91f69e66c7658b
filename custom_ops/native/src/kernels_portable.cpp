#include "simd_portable.h"

#define NATIVE_ISA portable
#include "kernels.inl"
