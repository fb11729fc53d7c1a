// The compiler of composed loops, on Xbyak, an assembler.
#include "compose.h"

#include <sys/mman.h>
#include <xbyak/xbyak.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace opgrad {

using kernel::Do;

LoopText::Line LoopText::add(const Step& step) {
  steps_.push_back(step);
  return static_cast<Line>(steps_.size() - 1);
}

LoopText::Line LoopText::read(std::uint32_t stream, bool splat) {
  return add({.what = Do::input, .splat = splat, .stream = stream});
}

LoopText::Line LoopText::apply(const kernel::Recipe& recipe, std::span<const Line> inputs) {
  std::array<Line, kernel::Recipe::most_lines> at{};
  for (std::size_t i = 0; i < recipe.count; ++i) {
    const auto& line = recipe.lines[i];
    if (line.what != Do::input)
      at[i] =
          add({.what = line.what, .a = at[line.a], .b = at[line.b], .c = at[line.c], .number = line.number});
    else if (line.a < inputs.size())
      at[i] = inputs[line.a];
  }
  return at[recipe.result];
}

void LoopText::write(std::uint32_t stream, Line line) { stores_.push_back({stream, line, steps_.size()}); }

namespace {

using Xbyak::Opmask;
using Xbyak::Reg64;
using Xbyak::Xmm;

constexpr std::size_t most_code = 16384;

bool is_mask(Do what) {
  return what == Do::less || what == Do::less_equal || what == Do::equal || what == Do::not_equal;
}
int operands(Do what) {
  if (what == Do::input || what == Do::number) return 0;
  return what == Do::select ? 3 : what == Do::negate || what == Do::abs || what == Do::sqrt ? 1 : 2;
}

// Registers that are free, by number.
class Pool {
 public:
  Pool(int first, int last) {
    for (int r = last; r >= first; --r) free_.push_back(r);
  }
  int take() {
    if (free_.empty()) return -1;
    const int r = free_.back();
    free_.pop_back();
    return r;
  }
  void give(int r) { free_.push_back(r); }

 private:
  std::vector<int> free_;
};

}  // namespace

// Vector register 0 and mask register 1 are scratch.
class LoopCompiler : public Xbyak::CodeGenerator {
 public:
  LoopCompiler(const LoopText& text, std::uint32_t streams, Isa isa, bool hoist, std::uint8_t* memory)
      : CodeGenerator(most_code, memory),
        text_(text),
        streams_(static_cast<int>(streams)),
        wide_(isa == Isa::avx512),
        f64_(text.dtype_ == DType::f64),
        hoist_(hoist),
        vectors_(1, wide_ ? 31 : 15),
        masks_(2, 7),
        registers_(text.steps_.size(), -1),
        last_use_(text.steps_.size(), 0),
        constants_(text.steps_.size()) {}

  bool run() {
    find_last_uses();
    if (!begin()) return false;
    std::size_t stored = 0;
    const auto count = text_.steps_.size();
    for (std::size_t i = 0; i <= count; ++i) {
      for (; stored < text_.stores_.size() && text_.stores_[stored].after == i; ++stored) {
        const auto& s = text_.stores_[stored];
        vmovups(stream(s.stream, false), vector(s.line));
      }
      // What only a store or nothing has read since goes now, so that it is given back once.
      for (std::size_t k = 0; k < i; ++k)
        if (last_use_[k] == i && registers_[k] >= 0 && !hoisted(k)) release(k);
      if (i < count && !hoisted(i) && !step(i)) return false;
    }
    end();
    return true;
  }

 private:
  using Step = LoopText::Step;

  bool hoisted(std::size_t i) const {
    const Step& s = text_.steps_[i];
    return hoist_ && (s.what == Do::number || (s.what == Do::input && s.splat));
  }

  // last_use_[i]: the step before which line i is let go.
  void find_last_uses() {
    for (std::size_t i = 0; i < text_.steps_.size(); ++i) {
      const Step& s = text_.steps_[i];
      const int n = operands(s.what);
      last_use_[i] = i + 1;
      if (n > 0) last_use_[s.a] = i + 1;
      if (n > 1) last_use_[s.b] = i + 1;
      if (n > 2) last_use_[s.c] = i + 1;
    }
    for (const auto& s : text_.stores_) last_use_[s.line] = std::max(last_use_[s.line], s.after);
  }

  Reg64 pointer(std::uint32_t stream) const {
    static constexpr std::array at{Xbyak::Operand::RCX, Xbyak::Operand::RDX, Xbyak::Operand::R8,
                                   Xbyak::Operand::R9,  Xbyak::Operand::R10, Xbyak::Operand::R11,
                                   Xbyak::Operand::RBX, Xbyak::Operand::RBP, Xbyak::Operand::R12,
                                   Xbyak::Operand::R13, Xbyak::Operand::R14, Xbyak::Operand::R15};
    return Reg64(at[stream]);
  }
  Xbyak::Address stream(std::uint32_t s, bool splat) const {
    return splat ? ptr[pointer(s)] : ptr[pointer(s) + rax];
  }
  Xmm xmm(int r) const { return wide_ ? Xmm(Xbyak::Zmm(r)) : Xmm(Xbyak::Ymm(r)); }
  Xmm vector(std::size_t line) const { return xmm(registers_[line]); }
  Opmask mask(std::size_t line) const { return Opmask(registers_[line]); }

  Pool& pool(std::size_t line) { return wide_ && is_mask(text_.steps_[line].what) ? masks_ : vectors_; }
  bool take(std::size_t line) {
    registers_[line] = pool(line).take();
    return registers_[line] >= 0;
  }
  void release(std::size_t line) {
    pool(line).give(registers_[line]);
    registers_[line] = -1;
  }

  // False if what is hoisted does not fit.
  bool begin() {
    endbr64();
    for (int s = saved_from; s < streams_; ++s) push(pointer(static_cast<std::uint32_t>(s)));
    for (int s = 0; s < streams_; ++s)
      mov(pointer(static_cast<std::uint32_t>(s)), ptr[rdi + static_cast<std::size_t>(8 * s)]);
    for (std::size_t i = 0; i < text_.steps_.size(); ++i)
      if (hoisted(i)) {
        if (!take(i)) return false;
        load(i);
      }
    xor_(eax, eax);
    align(32);
    L(loop_);
    return true;
  }

  void end() {
    add(rax, wide_ ? 64 : 32);
    cmp(rax, rsi);
    jb(loop_, T_NEAR);
    for (int s = streams_; s-- > saved_from;) pop(pointer(static_cast<std::uint32_t>(s)));
    vzeroupper();
    ret();
    align(64);
    for (std::size_t i = 0; i < text_.steps_.size(); ++i)
      if (text_.steps_[i].what == Do::number) {
        L(constants_[i]);
        repeat(text_.steps_[i].number);
      }
    L(sign_);
    repeat(-0.0);
    L(magnitude_);
    for (int byte = 0; byte < 64; ++byte) db(byte % (f64_ ? 8 : 4) == (f64_ ? 7 : 3) ? 0x7f : 0xff);
  }

  void repeat(double number) {
    std::array<std::uint8_t, 64> pack;
    const auto narrow = static_cast<float>(number);
    for (std::size_t at = 0; at < pack.size(); at += f64_ ? 8 : 4)
      std::memcpy(pack.data() + at, f64_ ? static_cast<const void*>(&number) : &narrow, f64_ ? 8 : 4);
    db(pack.data(), pack.size());
  }

  void load(std::size_t i) {
    const Step& s = text_.steps_[i];
    if (s.what == Do::number)
      vmovups(vector(i), ptr[rip + constants_[i]]);
    else
      vmovups(vector(i), stream(s.stream, s.splat));
  }

  bool step(std::size_t i) {
    const Step& s = text_.steps_[i];
    if (!take(i)) return false;
    if (operands(s.what) == 0)
      load(i);
    else if (is_mask(s.what))
      compare(i, s);
    else
      compute(i, s);
    return true;
  }

  void compute(std::size_t i, const Step& s) {
    const Xmm r = vector(i), a = s.what == Do::select ? Xmm() : vector(s.a),
              b = operands(s.what) > 1 ? vector(s.b) : Xmm();
    switch (s.what) {
      case Do::add:
        f64_ ? vaddpd(r, a, b) : vaddps(r, a, b);
        break;
      case Do::subtract:
        f64_ ? vsubpd(r, a, b) : vsubps(r, a, b);
        break;
      case Do::multiply:
        f64_ ? vmulpd(r, a, b) : vmulps(r, a, b);
        break;
      case Do::divide:
        f64_ ? vdivpd(r, a, b) : vdivps(r, a, b);
        break;
      case Do::sqrt:
        f64_ ? vsqrtpd(r, a) : vsqrtps(r, a);
        break;
      case Do::negate:
        f64_ ? vxorpd(r, a, ptr[rip + sign_]) : vxorps(r, a, ptr[rip + sign_]);
        break;
      case Do::abs:
        f64_ ? vandpd(r, a, ptr[rip + magnitude_]) : vandps(r, a, ptr[rip + magnitude_]);
        break;
      // The machine's maximum and minimum give the second operand in a tie and where either is NaN.
      case Do::max:
        f64_ ? vmaxpd(r, b, a) : vmaxps(r, b, a);
        keep_nan(r, b);
        break;
      case Do::min:
        f64_ ? vminpd(r, b, a) : vminps(r, b, a);
        keep_nan(r, b);
        break;
      default:
        choose(r, s);
    }
  }

  void keep_nan(const Xmm& r, const Xmm& b) {
    constexpr std::uint8_t unordered = 3;
    if (wide_) {
      f64_ ? vcmppd(k1, b, b, unordered) : vcmpps(k1, b, b, unordered);
      f64_ ? vmovapd(r | k1, b) : vmovaps(r | k1, b);
    } else {
      f64_ ? vcmppd(xmm(0), b, b, unordered) : vcmpps(xmm(0), b, b, unordered);
      f64_ ? vblendvpd(r, r, b, xmm(0)) : vblendvps(r, r, b, xmm(0));
    }
  }

  void compare(std::size_t i, const Step& s) {
    const std::uint8_t relation = s.what == Do::less         ? 0x11
                                  : s.what == Do::less_equal ? 0x12
                                  : s.what == Do::equal      ? 0x00
                                                             : 0x04;
    const Xmm a = vector(s.a), b = vector(s.b);
    if (wide_)
      f64_ ? vcmppd(mask(i), a, b, relation) : vcmpps(mask(i), a, b, relation);
    else
      f64_ ? vcmppd(vector(i), a, b, relation) : vcmpps(vector(i), a, b, relation);
  }

  void choose(const Xmm& r, const Step& s) {
    const Xmm a = vector(s.b), b = vector(s.c);
    if (wide_)
      f64_ ? vblendmpd(r | mask(s.a), b, a) : vblendmps(r | mask(s.a), b, a);
    else
      f64_ ? vblendvpd(r, b, a, vector(s.a)) : vblendvps(r, b, a, vector(s.a));
  }

  static constexpr int saved_from = 6;  // streams whose pointers are in registers that belong to the caller

  const LoopText& text_;
  const int streams_;
  const bool wide_, f64_, hoist_;
  Pool vectors_, masks_;
  std::vector<int> registers_;  // by line, -1: none
  std::vector<std::size_t> last_use_;
  std::vector<Xbyak::Label> constants_;
  Xbyak::Label loop_, sign_, magnitude_;
};

std::optional<std::size_t> compile(const LoopText& loop, std::uint32_t streams, Isa isa,
                                   std::vector<std::uint8_t>& code) {
  if (isa == Isa::baseline || streams > most_streams) return {};
  struct alignas(64) Line {
    std::uint8_t bytes[64];
  };
  std::vector<Line> memory(most_code / sizeof(Line));
  // What is the same for every element stays in registers, if there are enough.
  for (const bool hoist : {true, false}) {
    try {
      LoopCompiler compiler(loop, streams, isa, hoist, memory[0].bytes);
      if (!compiler.run()) continue;
      const std::size_t at = (code.size() + 63) / 64 * 64;
      code.resize(at);
      code.insert(code.end(), memory[0].bytes, memory[0].bytes + compiler.getSize());
      return at;
    } catch (const Xbyak::Error&) {
      return {};  // longer than the memory for it
    }
  }
  return {};
}

Executable::Executable(std::span<const std::uint8_t> code) {
  if (code.empty()) return;
  void* const memory = mmap(nullptr, code.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;
  std::memcpy(memory, code.data(), code.size());
  if (mprotect(memory, code.size(), PROT_READ | PROT_EXEC) != 0) {
    munmap(memory, code.size());
    return;
  }
  code_ = static_cast<std::byte*>(memory);
  bytes_ = code.size();
}

Executable::Executable(Executable&& o) noexcept
    : code_(std::exchange(o.code_, nullptr)), bytes_(std::exchange(o.bytes_, 0)) {}

Executable& Executable::operator=(Executable&& o) noexcept {
  std::swap(code_, o.code_);
  std::swap(bytes_, o.bytes_);
  return *this;
}

Executable::~Executable() {
  if (code_) munmap(code_, bytes_);
}

ComposedLoop Executable::at(std::size_t offset) const {
  return code_ ? reinterpret_cast<ComposedLoop>(code_ + offset) : nullptr;
}

}  // namespace opgrad
