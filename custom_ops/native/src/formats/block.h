// What formats are made of.
//
// A format is a struct: ggml's number for it, a block as files hold it, how one is decoded, and if it is a block format
// a tile, how blocks are packed into one, and how a tile is multiplied. Tiles are of 16 rows, a lane for each row, and
// are read once from front to back. They hold the bits of the file, in an order that suits the kernels, and so take as
// many bytes as their blocks do there.
//
// All of this is internal to each file that includes it: kernels are compiled for other processors than the rest, and
// no function of theirs may stand in for one of the same name elsewhere.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "../half.h"
#include "../kernels.h"

// For what the innermost loops are made of, which compilers would inline too late to unroll what is around it.
#ifndef NATIVE_INLINED
#define NATIVE_INLINED __attribute__((always_inline))
#endif

namespace native {
namespace {

// A float16, wherever it stands.
struct Half {
  uint8_t bytes[2];
};

inline float value_of(Half half) {
  uint16_t bits;
  std::memcpy(&bits, half.bytes, sizeof bits);
  return from_half(bits);
}

// Four bytes of each of 16 rows.
using CodeLine = uint8_t[4 * kLanes];

inline void put(const uint8_t* four, int lane, CodeLine& line) { std::memcpy(line + 4 * lane, four, 4); }

// Four bytes at a time; shifts by less than a byte need a mask.
inline uint32_t word_at(const uint8_t* four) {
  uint32_t word;
  std::memcpy(&word, four, 4);
  return word;
}
inline void put_word(uint32_t word, int lane, CodeLine& line) { std::memcpy(line + 4 * lane, &word, 4); }

// Of 32 bytes, whose low nibbles are 32 elements and whose high ones the next: each on four lines, with the elements i
// and i + 16 in a byte.
inline void put_two_parts(const uint8_t (&bytes)[32], int lane, CodeLine (&first)[4], CodeLine (&second)[4]) {
  constexpr uint32_t low = 0x0f0f0f0f;
  for (int j = 0; j < 4; ++j) {
    const uint32_t begin = word_at(bytes + 4 * j), end = word_at(bytes + 16 + 4 * j);
    put_word((begin & low) | (end & low) << 4, lane, first[j]);
    put_word((begin >> 4 & low) | (end & ~low), lane, second[j]);
  }
}

template <int n>
struct Constant {
  static constexpr int value = n;
};

template <class Body, int... numbers>
inline NATIVE_INLINED void call_each(const Body& body, std::integer_sequence<int, numbers...>) {
  (body(Constant<numbers>{}), ...);
}

// Calls `body` with the numbers from 0 to `count` - 1 as constants.
template <int count, class Body>
inline NATIVE_INLINED void unrolled(const Body& body) {
  call_each(body, std::make_integer_sequence<int, count>{});
}

// Of the tiles that are multiplied together the second one is `stride` bytes after the first. Memory is asked for
// `ahead` bytes before it is read.
struct Reading {
  int64_t stride, ahead;
};

}  // namespace
}  // namespace native
