// q3_k: 256 elements d * (scale - 32) * (q - 4), with a scale of six bits for 16 elements.
//
// Codes have two bits as in q2_k, and bit p of byte i of `thirds` is the third of element i of part p. Of the twelve
// bytes of scales the first eight have lower four bits, those of the scales 0 to 7 in low nibbles, of the others in
// high ones; bits 2 * j and above of byte 8 + i are the upper two of scale 4 * j + i.
#pragma once

#include "fifth_bits.h"
#include "two_bits.h"

namespace native {
namespace {

struct Q3_K {
  static constexpr const char* name = "q3_k";
  static constexpr Encoding encoding{11};
  static constexpr int columns = 256, tile_columns = 256;
  static constexpr int sums_a_token = 2;

  struct Block {
    uint8_t thirds[32];
    uint8_t codes[2][32];
    uint8_t scales[12];
    Half d;
  };
  struct Tile {
    Half d[kLanes];
    uint8_t unused[32];  // so that lines are lines of the cache; 2 % of the tile
    CodeLine scales[3];
    struct {
      CodeLine thirds, codes[2];
    } parts[8];
  };
  static_assert(sizeof(Block) == 110 && sizeof(Tile) == kLanes * sizeof(Block) + sizeof(Tile::unused));
  static constexpr int64_t header = offsetof(Tile, parts);

  static void decode(const Block& block, float* values) {
    const float d = value_of(block.d);
    for (int i = 0; i < columns; ++i) {
      const int scale = i / 16, part = i / 32;
      const int low = block.scales[scale % 8] >> (4 * (scale / 8)) & 15;
      const int high = block.scales[8 + scale % 4] >> (2 * (scale / 4)) & 3;
      const int code = two_bits_at(block.codes, i) | (block.thirds[i % 32] >> part & 1) << 2;
      values[i] = d * static_cast<float>((low | high << 4) - 32) * static_cast<float>(code - 4);
    }
  }

  static void pack(const Block& block, int, int lane, Tile& tile) {
    tile.d[lane] = block.d;
    for (int i = 0; i < 3; ++i) put(block.scales + 4 * i, lane, tile.scales[i]);
    for (int part = 0; part < 8; ++part) {
      put_bits(block.thirds, part, lane, tile.parts[part].thirds);
      put_two_bits(block.codes[part / 4], part % 4, lane, tile.parts[part].codes);
    }
  }

  template <class S>
  static inline NATIVE_INLINED void add(const Tile& tile, Reading reading, const typename S::Tokens& x,
                                        typename S::Sums& sums) {
    static_assert(S::groups == 1);
    const auto d = S::F32::load_half(tile.d);
    auto upper = as_words(S::Codes::load(tile.scales[2]));
    for (int four = 0; four < 4; ++four) {  // scales, of two parts
      const auto line = as_words(S::Codes::load(tile.scales[four % 2]));
      const auto low = (four < 2 ? line : S::template shift_right<4>(line)) & S::I32::all(0x0f0f0f0f);
      auto scales = low + S::template shift_left<4>(upper & S::I32::all(0x03030303));
      upper = S::template shift_right<2>(upper);
      for (int part = 2 * four; part < 2 * four + 2; ++part) {
        typename S::I32 scaled[S::tokens];
        const auto thirds = S::load_line(tile.parts[part].thirds, reading);
        unrolled<2>([&](auto half_number) NATIVE_INLINED {
          constexpr int half = half_number.value;
          typename S::Dots dots;
          // The sums are times -32.
          S::for_each([&](int g, int t) NATIVE_INLINED { dots[g][t] = S::I32::all(x.sums_16(part, half)[t] / 8); });
          const auto codes = S::load_line(tile.parts[part].codes[half], reading);
          unrolled<4>([&](auto number) NATIVE_INLINED {
            constexpr int j = number.value;
            const typename S::Codes three_bits[1] = {
                S::template with_bits<1, 4 * half + j, 2>(S::template bits<2, 2 * j>(codes), thirds)};
            S::add_line(dots, three_bits, x.codes(part, 4 * half + j));
          });
          const auto scale = (scales & S::I32::all(255)) + S::I32::all(-32);
          scales = S::template shift_right<8>(scales);
          for (int t = 0; t < S::tokens; ++t) {
            const auto product = dots[0][t] * scale;
            scaled[t] = half == 0 ? product : scaled[t] + product;
          }
        });
        for (int t = 0; t < S::tokens; ++t)
          sums[0][t] = fma(to_float(scaled[t]), d * S::F32::all(x.scales(part)[t]), sums[0][t]);
      }
    }
  }
};

}  // namespace
}  // namespace native
