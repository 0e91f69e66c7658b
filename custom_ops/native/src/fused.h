// a * b + c, rounded once, where the processor may have no instruction for it.
#pragma once

#include <cmath>

#if !defined(__FP_FAST_FMAF) && defined(__SSE2__)
#define NATIVE_FUSED_IN_DOUBLE
#include <emmintrin.h>
#endif

namespace native {

#ifdef NATIVE_FUSED_IN_DOUBLE

// The product is exact in double. The sum is rounded to odd there, so that rounding it to float gives what one rounding
// would (Boldo and Melquiond 2008, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to
// odd").
inline __m128d fused_to_odd(__m128d a, __m128d b, __m128d c) {
  const __m128d product = _mm_mul_pd(a, b), sum = _mm_add_pd(product, c), back = _mm_sub_pd(sum, product);
  const __m128d error = _mm_add_pd(_mm_sub_pd(product, _mm_sub_pd(sum, back)), _mm_sub_pd(c, back));
  // Above 0 if the exact sum is farther from 0; not a number, and so neither, if the sum is not finite.
  const __m128d outwards = _mm_mul_pd(error, sum), zero = _mm_setzero_pd();
  const __m128i bits = _mm_castpd_si128(sum), one = _mm_set_epi32(0, 1, 0, 1);
  const __m128i step = _mm_sub_epi64(_mm_castpd_si128(_mm_cmplt_pd(outwards, zero)),  // what is true is -1
                                     _mm_castpd_si128(_mm_cmpgt_pd(outwards, zero)));
  const __m128i even = _mm_sub_epi64(_mm_and_si128(bits, one), one);
  return _mm_castsi128_pd(_mm_add_epi64(bits, _mm_and_si128(step, even)));
}

#endif

// c = a * b + c, in four lanes.
inline void fuse(const float* a, const float* b, float* c) {
#ifdef NATIVE_FUSED_IN_DOUBLE  // the C library's would be a call for each lane, several times as slow
  const __m128 x = _mm_loadu_ps(a), y = _mm_loadu_ps(b), z = _mm_loadu_ps(c);
  const auto upper = [](__m128 lanes) { return _mm_cvtps_pd(_mm_movehl_ps(lanes, lanes)); };
  const __m128d low = fused_to_odd(_mm_cvtps_pd(x), _mm_cvtps_pd(y), _mm_cvtps_pd(z));
  const __m128d high = fused_to_odd(upper(x), upper(y), upper(z));
  _mm_storeu_ps(c, _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high)));
#else
  for (int i = 0; i < 4; ++i) c[i] = std::fma(a[i], b[i], c[i]);
#endif
}

}  // namespace native
