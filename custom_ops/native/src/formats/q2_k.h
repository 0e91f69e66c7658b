// q2_k: 256 elements, d * scale * q - dmin * minimum; for 16 elements a byte has a scale and, above it, a minimum.
//
// A block has two halves of four parts of 32: a byte of `codes` has two bits of one element of each part of a half.
#pragma once

#include "two_bits.h"

namespace native {
namespace {

struct Q2_K {
  static constexpr const char* name = "q2_k";
  static constexpr Encoding encoding{10};
  static constexpr int columns = 256, tile_columns = 256;
  static constexpr int sums_a_token = 2;

  struct Block {
    uint8_t factors[16];
    uint8_t codes[2][32];
    Half d, dmin;
  };
  struct Tile {
    Half d[kLanes], dmin[kLanes];
    uint8_t factors[16][kLanes];
    CodeLine codes[8][2];
  };
  static_assert(sizeof(Block) == 84 && sizeof(Tile) == kLanes * sizeof(Block));
  static constexpr int64_t header = offsetof(Tile, codes);

  static void decode(const Block& block, float* values) {
    const float d = value_of(block.d), dmin = value_of(block.dmin);
    for (int i = 0; i < columns; ++i) {
      const int code = two_bits_at(block.codes, i), factors = block.factors[i / 16];
      const float scale = d * static_cast<float>(factors & 15), minimum = dmin * static_cast<float>(factors >> 4);
      values[i] = scale * static_cast<float>(code) - minimum;
    }
  }

  static void pack(const Block& block, int, int lane, Tile& tile) {
    tile.d[lane] = block.d;
    tile.dmin[lane] = block.dmin;
    for (int i = 0; i < 16; ++i) tile.factors[i][lane] = block.factors[i];
    for (int part = 0; part < 8; ++part) put_two_bits(block.codes[part / 4], part % 4, lane, tile.codes[part]);
  }

  template <class S>
  static inline NATIVE_INLINED void add(const Tile& tile, Reading reading, const typename S::Tokens& x,
                                        typename S::Sums& sums) {
    static_assert(S::groups == 1);
    const auto d = S::F32::load_half(tile.d), dmin = S::F32::load_half(tile.dmin);
    for (int part = 0; part < 8; ++part) {
      typename S::I32 scaled[S::tokens], offsets[S::tokens];
      for (int half = 0; half < 2; ++half) {
        typename S::Dots dots;
        S::for_each([&](int g, int t) NATIVE_INLINED { dots[g][t] = S::I32::zero(); });
        const auto line = S::load_line(tile.codes[part][half], reading);
        unrolled<4>([&](auto number) NATIVE_INLINED {
          const typename S::Codes codes[1] = {S::template bits<2, 2 * number.value>(line)};
          S::add_line(dots, codes, x.codes(part, 4 * half + number.value));
        });
        const auto factors = S::I32::load_bytes(tile.factors[2 * part + half]);
        const auto scale = factors & S::I32::all(15), minimum = S::template shift_right<4>(factors) & S::I32::all(15);
        for (int t = 0; t < S::tokens; ++t) {
          const auto product = dots[0][t] * scale, offset = S::I32::all(x.sums_16(part, half)[t]) * minimum;
          scaled[t] = half == 0 ? product : scaled[t] + product;
          offsets[t] = half == 0 ? offset : offsets[t] + offset;
        }
      }
      for (int t = 0; t < S::tokens; ++t) {
        const float scale = x.scales(part)[t];
        sums[0][t] = fma(to_float(scaled[t]), d * S::F32::all(scale), sums[0][t]);
        // The sums of activations are times -32.
        sums[0][t] = fma(to_float(offsets[t]), dmin * S::F32::all(scale * 0.03125f), sums[0][t]);
      }
    }
  }
};

}  // namespace
}  // namespace native
