// Codes of five bits, and lines of single bits.
#pragma once

#include "block.h"

namespace native {
namespace {

// 32 columns of each row. In byte i of a row's four bytes of fifth bits, bit j is that of element 4 * j + i: it belongs
// to the low nibble of byte i of line j, and bit 4 + j to the high one.
struct FiveBits {
  CodeLine fifths, nibbles[4];
};

// The code of an element of a block of 32, of whose `codes` low nibbles are elements 0 to 15, and bit i of `fifths` is the
// fifth of element i.
inline int five_bits_at(const uint8_t (&codes)[16], const uint8_t (&fifths)[4], int element) {
  const int nibble = codes[element % 16] >> (4 * (element / 16)) & 15;
  return nibble | (fifths[element / 8] >> (element % 8) & 1) << 4;
}

// Bit `place` of each of 32 bytes, in that order.
inline void put_bits(const uint8_t (&bytes)[32], int place, int lane, CodeLine& line) {
  uint32_t bits = 0;
  for (int j = 0; j < 8; ++j) bits |= (word_at(bytes + 4 * j) >> place & 0x01010101u) << j;
  put_word(bits, lane, line);
}

// The same of the bits of a number of 32, as q5_0 and q5_1 have them: bit i is that of element i.
inline void put_number(const uint8_t (&number)[4], int lane, CodeLine& line) {
  uint8_t bits[4] = {};
  for (int i = 0; i < 32; ++i) bits[i % 4] |= (number[i / 8] >> (i % 8) & 1) << (i / 4);
  put(bits, lane, line);
}

// Packs such a block.
inline void put_fives(const uint8_t (&codes)[16], const uint8_t (&fifths)[4], int lane, FiveBits& tile) {
  put_number(fifths, lane, tile.fifths);
  for (int j = 0; j < 4; ++j) put(codes + 4 * j, lane, tile.nibbles[j]);
}

// dots += a block's codes * its activations
template <class S>
inline NATIVE_INLINED void add_fives(typename S::Dots& dots, const FiveBits& codes, Reading reading,
                                     const typename S::Tokens& x, int b) {
  typename S::Codes fifth[S::groups];
  for (int g = 0; g < S::groups; ++g) fifth[g] = S::load_line(codes.fifths + g * reading.stride, reading);
  unrolled<4>([&](auto line_number) NATIVE_INLINED {
    constexpr int j = line_number.value;
    typename S::Codes lower[S::groups], upper[S::groups];
    for (int g = 0; g < S::groups; ++g) {
      const auto line = S::load_line(codes.nibbles[j] + g * reading.stride, reading);
      lower[g] = S::template with_bits<1, j>(low_nibbles(line), fifth[g]);
      upper[g] = S::template with_bits<1, j + 4>(high_nibbles(line), fifth[g]);
    }
    S::add_line(dots, lower, x.codes(b, j));
    S::add_line(dots, upper, x.codes(b, j + 4));
  });
}

}  // namespace
}  // namespace native
