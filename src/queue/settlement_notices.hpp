// The mailbox of a consumer: what a nack or a reject says beyond the fact (layout/seat.hpp).
//
// WHO WRITES WHAT   The owner of the seat alone writes; the supervisor reads.
// MAILBOX   A notice is whole before the word is NACKED (that CAS is a release), and the supervisor has copied it
//   before it changes that word again. So a notice is free when the word that it speaks of says something else:
//   acquire, before the bytes are used anew.
// IF THE OWNER STOPS between notice and CAS: nobody reads a notice that no NACKED word names; its successor in the seat
//   begins with an empty mailbox of its own. A full mailbox costs the details, never the settlement.
//
// TESTED BY  queue/settlement_notices_test
#pragma once

#include <array>
#include <string_view>

#include "group/competing.hpp"
#include "layout/seat.hpp"

namespace mooring {

struct SettlementDetail {
  u64 delay_ns = layout::kNoDelay;
  u32 code = 0;
  std::string_view text;
  bool empty() const { return delay_ns == layout::kNoDelay && code == 0 && text.empty(); }
};

template <class A>
class SettlementNotices {
 public:
  SettlementNotices() = default;
  explicit SettlementNotices(u8* seat_file)
      : notices_(reinterpret_cast<layout::SeatNotice*>(seat_file + layout::kNoticesOffset)),
        texts_(seat_file + layout::kNoticeTextsOffset) {
    for (u32 index = 0; index < layout::kNoticesMax; ++index) {
      A::store(notices_[index].seq, u64{0}, std::memory_order_relaxed);  // of an owner before, dead or closed
    }
  }

  static constexpr u32 kNone = ~u32{0};

  // Writes a notice for the delivery; kNone: the mailbox is full. Tell it the outcome with posted().
  u32 post(u64 seq, u32 acquired, const SettlementDetail& detail) {
    const u32 index = take_free(notice_words_, next_notice_);
    if (index == kNone) return kNone;
    layout::SeatNotice& notice = notices_[index];
    A::store(notice.seq, u64{0}, std::memory_order_relaxed);
    A::store(notice.acquired, acquired, std::memory_order_relaxed);
    A::store(notice.code, detail.code, std::memory_order_relaxed);
    A::store(notice.delay_ns, detail.delay_ns, std::memory_order_relaxed);
    u32 text = layout::kNoText;
    if (!detail.text.empty()) {
      text = take_free(text_words_, next_text_);
      if (text != kNone) {
        const u64 bytes = std::min<u64>(detail.text.size(), layout::kNoticeTextBytes);
        A::copy_in(texts_ + text * layout::kNoticeTextBytes, detail.text.data(), bytes);
        A::store(notice.text_bytes, static_cast<u32>(bytes), std::memory_order_relaxed);
      }
    }
    A::store(notice.text, text, std::memory_order_relaxed);
    A::store(notice.seq, seq, std::memory_order_release);  // MAILBOX, with the CAS that follows
    A::kill_point("notice.posted");
    last_text_ = text;
    return index;
  }

  // The settlement was made: `word` says so, until the supervisor has seen it. Not made: a default NackedWord.
  void posted(u32 index, const NackedWord& word) {
    notice_words_[index] = word;
    if (last_text_ < layout::kNoticeTexts) text_words_[last_text_] = word;
  }

 private:
  template <std::size_t N>
  static u32 take_free(const std::array<NackedWord, N>& words, u32& next) {
    for (u32 step = 0; step < N; ++step) {
      const u32 index = (next + step) % N;
      const NackedWord& word = words[index];
      if (word.place != nullptr && A::load(*word.place, std::memory_order_acquire) == word.word) continue;  // MAILBOX
      next = index + 1;
      return index;
    }
    return kNone;
  }

  layout::SeatNotice* notices_ = nullptr;
  u8* texts_ = nullptr;
  std::array<NackedWord, layout::kNoticesMax> notice_words_{};
  std::array<NackedWord, layout::kNoticeTexts> text_words_{};
  u32 next_notice_ = 0;
  u32 next_text_ = 0;
  u32 last_text_ = kNone;
};

}  // namespace mooring
