// q6_k: 256 elements d * s * (q - 32), with a scale s of a signed byte for 16 elements.
//
// A block has two halves of four quarters of 32. Quarters 0 and 1 are the low nibbles of 32 bytes each, 2 and 3 the high
// ones; a byte of `high` has the upper two bits of one element of each quarter.
#pragma once

#include "block.h"

namespace native {
namespace {

struct Q6_K {
  static constexpr const char* name = "q6_k";
  static constexpr Encoding encoding{14};
  static constexpr int columns = 256, tile_columns = 256;
  static constexpr int sums_a_token = 2;  // of two quarters at a time

  struct Block {
    uint8_t low[2][2][32], high[2][32], scales[16];
    Half d;
  };
  // Lines stand in the order in which they are read.
  struct TileHalf {
    struct {
      CodeLine high, low;
    } even[8];    // the upper bits of all quarters, and the nibbles of 0 and 2
    CodeLine odd[8];  // the nibbles of 1 and 3
  };
  struct Tile {
    Half d[kLanes];
    uint8_t unused[32];  // so that lines are lines of the cache; 1 % of the tile
    uint8_t scales[8][2][kLanes];
    TileHalf halves[2];
  };
  static_assert(sizeof(Block) == 210 && sizeof(Tile) == kLanes * sizeof(Block) + sizeof(Tile::unused));
  static constexpr int64_t header = offsetof(Tile, halves);

  static void decode(const Block& block, float* values) {
    const float d = value_of(block.d);
    for (int i = 0; i < columns; ++i) {
      const int half = i / 128, quarter = i % 128 / 32, column = i % 32;
      const int low = block.low[half][quarter % 2][column] >> (4 * (quarter / 2)) & 15;
      const int high = block.high[half][column] >> (2 * quarter) & 3;
      const float scale = d * static_cast<float>(static_cast<int8_t>(block.scales[i / 16]));
      values[i] = scale * static_cast<float>((low | high << 4) - 32);
    }
  }

  static void pack(const Block& block, int, int lane, Tile& tile) {
    tile.d[lane] = block.d;
    for (int i = 0; i < 16; ++i) tile.scales[i / 2][i % 2][lane] = block.scales[i];
    for (int half = 0; half < 2; ++half) {
      TileHalf& lines = tile.halves[half];
      for (int j = 0; j < 8; ++j) {
        put(block.high[half] + 4 * j, lane, lines.even[j].high);
        put(block.low[half][0] + 4 * j, lane, lines.even[j].low);
        put(block.low[half][1] + 4 * j, lane, lines.odd[j]);
      }
    }
  }

  template <class S>
  static inline NATIVE_INLINED void add(const Tile& tile, Reading reading, const typename S::Tokens& x, typename S::Sums& sums) {
    const auto d = S::F32::load_half(tile.d);
    for (int half = 0; half < 2; ++half)
      for (int odd = 0; odd < 2; ++odd) add_quarters<S>(tile, half, odd, reading, x, d, sums);
  }

 private:
  template <class S>
  struct TwoLines {
    typename S::Codes codes[2];
  };

  // Line `j` of the quarters `odd` and `odd + 2` of a half, which share lines of nibbles.
  template <class S>
  static inline NATIVE_INLINED TwoLines<S> two_lines(const TileHalf& lines, int odd, int j, Reading reading) {
    if (odd == 0) {
      const auto high = S::load_line(lines.even[j].high, reading), low = S::load_line(lines.even[j].low, reading);
      return {{S::template with_bits<2, 0>(low_nibbles(low), high), S::template with_bits<2, 4>(high_nibbles(low), high)}};
    }
    // The upper bits have been asked for already.
    const auto high = S::Codes::load(lines.even[j].high), low = S::load_line(lines.odd[j], reading);
    return {{S::template with_bits<2, 2>(low_nibbles(low), high), S::template with_bits<2, 6>(high_nibbles(low), high)}};
  }

  // Adds two such quarters. With `odd` as a constant the kernel would be twice as large, and a fifth slower.
  template <class S>
  static inline NATIVE_INLINED void add_quarters(const Tile& tile, int half, int odd, Reading reading,
                                                 const typename S::Tokens& x, typename S::F32 d,
                                                 typename S::Sums& sums) {
    static_assert(S::groups == 1);
    const int quarters[2] = {4 * half + odd, 4 * half + odd + 2};
    typename S::I32 scaled[2][S::tokens];
    for (int part = 0; part < 2; ++part) {  // of a quarter; each has a scale
      typename S::I32 dots[2][S::tokens];
      for (int q = 0; q < 2; ++q)
        for (int t = 0; t < S::tokens; ++t) dots[q][t] = S::I32::all(x.sums_16(quarters[q], part)[t]);
      S::template for_each_line<4>([&](int of_part) NATIVE_INLINED {
        const int j = 4 * part + of_part;
        const TwoLines<S> lines = two_lines<S>(tile.halves[half], odd, j, reading);
        for (int t = 0; t < S::tokens; ++t)
          for (int q = 0; q < 2; ++q)
            dots[q][t] = dot(dots[q][t], lines.codes[q], S::Activations::load(x.codes(quarters[q], j) + 4 * t));
      });
      for (int q = 0; q < 2; ++q) {
        const auto scale = S::I32::load_bytes(tile.scales[quarters[q]][part]);
        for (int t = 0; t < S::tokens; ++t) {
          const auto product = dots[q][t] * scale;
          scaled[q][t] = part == 0 ? product : scaled[q][t] + product;
        }
      }
    }
    for (int q = 0; q < 2; ++q)
      for (int t = 0; t < S::tokens; ++t)
        sums[0][t] = fma(to_float(scaled[q][t]), d * S::F32::all(x.scales(quarters[q])[t]), sums[0][t]);
  }
};

}  // namespace
}  // namespace native
