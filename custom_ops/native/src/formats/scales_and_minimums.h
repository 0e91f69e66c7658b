// What blocks of q4_k and q5_k begin with: d, dmin, and for each of eight parts of 32 elements a scale and a minimum of
// six bits, in twelve bytes. An element is d * scale * q - dmin * minimum.
//
// The first four bytes have the scales of the parts 0 to 3, the next their minimums, each below two bits more. The last
// four have the lower four bits of the scales of parts 4 to 7 in their low nibbles, and of their minimums in the high
// ones; the upper two bits of both are those above.
#pragma once

#include "block.h"

namespace native {
namespace {

struct ScalesAndMinimums {
  Half d, dmin;
  uint8_t six_bits[12];

  int scale(int part) const {
    const uint8_t* at = six_bits + part % 4;
    return part < 4 ? at[0] & 63 : (at[8] & 15) | at[0] >> 6 << 4;
  }
  int minimum(int part) const {
    const uint8_t* at = six_bits + part % 4;
    return part < 4 ? at[4] & 63 : at[8] >> 4 | at[4] >> 6 << 4;
  }
};

// Those of sixteen rows.
struct ScalesAndMinimumsOfTile {
  Half d[kLanes], dmin[kLanes];
  CodeLine six_bits[3];

  void put(const ScalesAndMinimums& of_row, int lane) {
    d[lane] = of_row.d;
    dmin[lane] = of_row.dmin;
    for (int i = 0; i < 3; ++i) native::put(of_row.six_bits + 4 * i, lane, six_bits[i]);
  }

  // Multiplies a tile: `add_part(dots, part)` adds the products of a part's codes. All products of a row's factors are
  // exact in float32.
  template <class S, class AddPart>
  inline NATIVE_INLINED void add(Reading reading, const typename S::Tokens& x, typename S::Sums& sums,
                                 const AddPart& add_part) const {
    typename S::F32 d_of[S::groups], negative_dmin[S::groups];
    for (int g = 0; g < S::groups; ++g) {
      d_of[g] = S::F32::load_half(d[0].bytes + g * reading.stride);
      negative_dmin[g] = S::F32::zero() - S::F32::load_half(dmin[0].bytes + g * reading.stride);
    }
    for (int upper = 0; upper < 2; ++upper) {
      typename S::I32 scales[S::groups], minimums[S::groups];
      for (int g = 0; g < S::groups; ++g) {
        const auto line = [&](int i) { return S::Codes::load(six_bits[i] + g * reading.stride); };
        const auto lower_scales = line(0), lower_minimums = line(1);
        const auto low = upper != 0 ? low_nibbles(line(2)) : low_nibbles(lower_scales);
        const auto high = upper != 0 ? high_nibbles(line(2)) : low_nibbles(lower_minimums);
        scales[g] = as_words(upper != 0 ? S::template with_bits<2, 6>(low, lower_scales)
                                        : S::template with_bits<2, 4>(low, lower_scales));
        minimums[g] = as_words(upper != 0 ? S::template with_bits<2, 6>(high, lower_minimums)
                                          : S::template with_bits<2, 4>(high, lower_minimums));
      }
      for (int i = 0; i < 4; ++i) {
        const int part = 4 * upper + i;
        typename S::Dots dots;
        S::for_each([&](int g, int t) NATIVE_INLINED { dots[g][t] = S::I32::zero(); });
        add_part(dots, part);
        typename S::F32 scale[S::groups], minimum[S::groups];
        for (int g = 0; g < S::groups; ++g) {
          scale[g] = d_of[g] * to_float(scales[g] & S::I32::all(255));
          minimum[g] = negative_dmin[g] * to_float(minimums[g] & S::I32::all(255));
          scales[g] = S::template shift_right<8>(scales[g]);
          minimums[g] = S::template shift_right<8>(minimums[g]);
        }
        S::add_scaled(sums, dots, scale, x.scales(part));
        S::add_offsets(sums, minimum, x.totals(part));
      }
    }
  }
};

}  // namespace
}  // namespace native
