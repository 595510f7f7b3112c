#include "model/explorer.hpp"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <sstream>
#include <utility>

#include "base/check.hpp"

namespace mooring::model {
namespace {

constexpr std::size_t kStackBytes = std::size_t{256} * 1024;
constexpr std::size_t kTraceLinesMax = 400;  // of a livelock only the end is of interest

const char* order_name(std::memory_order order) {
  switch (order) {
    case std::memory_order_relaxed: return "relaxed";
    case std::memory_order_consume: return "consume";
    case std::memory_order_acquire: return "acquire";
    case std::memory_order_release: return "release";
    case std::memory_order_acq_rel: return "acq_rel";
    case std::memory_order_seq_cst: return "seq_cst";
  }
  return "?";
}

std::string number(u64 value) {
  if (value < 10'000) return std::to_string(value);
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "0x%llx", static_cast<unsigned long long>(value));
  return text.data();
}

}  // namespace

constinit thread_local Explorer* Explorer::the_active = nullptr;
constinit thread_local bool Explorer::in_fiber = false;

std::string Result::text() const {
  std::ostringstream out;
  out << executions << " executions (" << cut << " cut), " << steps << " steps, " << preemptions << " preemptions, "
      << stale_reads << " stale reads, " << kills << " kills, " << stops << " stops, " << stuck << " stuck; "
      << static_cast<u64>(executions_per_second()) << " executions/s; "
      << (exhaustive ? "exhaustive" : "not exhaustive");
  if (failed) {
    out << "\nFAILED: " << message << "\n" << trace << "replay with: \"" << choices << "\"";
    if (seed != 0) out << " (seed " << seed << ")";
    out << "\n";
  }
  return out.str();
}

Explorer::Explorer(Options options, ScenarioFactory factory) : options_(options), factory_(std::move(factory)) {
  MOORING_CHECK(options_.threads >= 1 && options_.threads <= static_cast<int>(kThreadsMax));
  MOORING_CHECK(options_.stale_depth < kStoresKept);
  thread_count_ = static_cast<u32>(options_.threads);
  for (u32 i = 0; i < thread_count_; ++i) threads_[i].fiber = std::make_unique<Fiber>(kStackBytes);
}

Explorer::~Explorer() = default;

// ------------------------------------------------------------------------------------------------------- executions

Result Explorer::explore() {
  choices_.clear();
  unbounded_ = false;
  return run_all(Mode::kSearch, options_.executions_max);
}

Result Explorer::walk(u64 seed, u64 executions) {
  random_state_ = seed;
  unbounded_ = true;
  Result result = run_all(Mode::kWalk, executions);
  result.seed = seed;
  return result;
}

Result Explorer::replay(const std::string& choices) {
  std::istringstream in(choices);
  std::string kind;
  in >> kind;
  Result refused;
  refused.failed = true;
  refused.message =
      "replay(\"" + choices + "\"): not a choice vector; give the text that a failed Result has in `choices`";
  if (kind != "dfs" && kind != "walk") return refused;
  unbounded_ = kind == "walk";
  choices_.clear();
  for (unsigned taken = 0; in >> taken;) choices_.push_back(Choice{static_cast<u16>(taken), 0});
  if (!in.eof()) return refused;
  return run_all(Mode::kReplay, 1);
}

Result Explorer::run_all(Mode mode, u64 executions_max) {
  Result result;
  if (!kExplorerSupported) {
    result.failed = true;
    result.message = "the interleaving explorer does not run under ThreadSanitizer; use another build";
    return result;
  }
  MOORING_CHECK(the_active == nullptr);  // one at a time on an OS thread
  the_active = this;
  mode_ = mode;
  tracing_ = mode == Mode::kReplay;
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&start] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  for (;;) {
    if (mode == Mode::kWalk) choices_.clear();
    run_one();
    ++result.executions;
    result.steps += steps_;
    result.preemptions += static_cast<u64>(preemptions_);
    result.stale_reads += stale_;
    result.kills += static_cast<u64>(kills_);
    result.stops += static_cast<u64>(stops_);
    if (outcome_ == Outcome::kStuck) ++result.stuck;
    if (outcome_ == Outcome::kCut) ++result.cut;
    if (failed_) break;
    if (mode == Mode::kSearch && !backtrack()) {
      result.exhaustive = true;
      break;
    }
    if (executions_max != 0 && result.executions >= executions_max) break;
    if (options_.seconds_max > 0 && result.executions % 256 == 0 && elapsed() >= options_.seconds_max) break;
  }
  result.seconds = elapsed();
  if (failed_ || mode == Mode::kReplay) add_trace(result);
  the_active = nullptr;
  return result;
}

void Explorer::add_trace(Result& result) {
  result.failed = failed_;
  result.message = message_;
  result.choices = choices_text();
  if (!tracing_) {
    // Lines cost more than the accesses they describe, so they are written only now, when it is known which run
    // matters.
    mode_ = Mode::kReplay;
    tracing_ = true;
    run_one();
    if (message_ != result.message) {
      trace_.push_back("(The second run of these choices ended otherwise: the scenario is not deterministic.)");
    }
  }
  const std::size_t first = trace_.size() > kTraceLinesMax ? trace_.size() - kTraceLinesMax : 0;
  if (first != 0) result.trace = "(" + std::to_string(first) + " earlier lines left out)\n";
  for (std::size_t i = first; i < trace_.size(); ++i) result.trace += trace_[i] + "\n";
}

std::string Explorer::choices_text() const {
  std::size_t count = choices_.size();
  while (count > 0 && choices_[count - 1].taken == 0) --count;  // 0 is what a replay takes beyond the end
  std::string text = unbounded_ ? "walk" : "dfs";
  for (std::size_t i = 0; i < count; ++i) text += " " + std::to_string(choices_[i].taken);
  return text;
}

bool Explorer::backtrack() {
  while (!choices_.empty() && choices_.back().taken + 1 == choices_.back().count) choices_.pop_back();
  if (choices_.empty()) return false;
  ++choices_.back().taken;
  return true;
}

void Explorer::run_one() {
  memory_.start_execution();
  for (u32 i = 0; i < thread_count_; ++i) {
    std::unique_ptr<Fiber> fiber = std::move(threads_[i].fiber);
    threads_[i] = ModelThread{};
    threads_[i].fiber = std::move(fiber);
  }
  trace_.clear();
  names_.clear();
  current_ = kThreadsMax;
  depth_ = 0;
  outcome_ = Outcome::kEnded;
  failed_ = false;
  message_.clear();
  steps_ = 0;
  changes_ = 0;
  futex_turns_ = 0;
  preemptions_ = 0;
  stale_ = 0;
  kills_ = 0;
  stops_ = 0;

  scenario_ = factory_();
  if (!failed_) schedule(Next::kFree);
  current_ = kThreadsMax;
  bool is_end = outcome_ == Outcome::kEnded;
  if (!failed_ && outcome_ == Outcome::kStuck) {
    is_end = scenario_->on_stuck();
    if (!is_end && !failed_) {
      std::string who;
      for (u32 i = 0; i < thread_count_; ++i) {
        if (threads_[i].state == State::kPaused) who += " T" + std::to_string(i) + " in pause()";
        if (threads_[i].state == State::kFutex) who += " T" + std::to_string(i) + " in futex_wait";
      }
      record_failure("stuck: nobody is left to wake" + who);
    }
  }
  if (!failed_ && is_end) scenario_->check_end();
  if (depth_ < choices_.size()) misfit();
  scenario_.reset();
}

void Explorer::fiber_main() {
  Fiber::entered();
  Explorer& explorer = *the_active;
  const u32 self = explorer.current_;
  try {
    explorer.scenario_->thread(static_cast<int>(self));
  } catch (const std::exception& error) {
    explorer.record_failure(std::string("an exception left the thread: ") + error.what());
  } catch (...) {
    explorer.record_failure("an exception left the thread");
  }
  if (explorer.failed_) explorer.give_up();
  ModelThread& thread = explorer.threads_[self];
  // Killed at the end: everything is done, but nobody says good-bye for it. A point of its own, so that others can be
  // here while it is still alive.
  if (explorer.may_kill(self)) explorer.point("its end", Step{0, 0, true, true});
  thread.state = State::kEnded;
  explorer.note("T" + std::to_string(self) + " ended");
  ++explorer.changes_;
  explorer.happens(Step{0, 0, false, true});
  explorer.schedule(Next::kFree);
}

void Explorer::record_failure(std::string message) {
  if (failed_) return;
  failed_ = true;
  message_ = std::move(message);
  note("FAILED: " + message_);
}

void Explorer::give_up() {
  if (in_fiber) leave(Outcome::kFailed);
}

void Explorer::leave(Outcome outcome) {
  outcome_ = outcome;
  if (!in_fiber) return;
  in_fiber = false;
  Fiber::switch_to(*threads_[current_].fiber, main_, true);
}

// ------------------------------------------------------------------------------------------------------- scheduling

bool Explorer::ready(u32 thread) const {
  const ModelThread& t = threads_[thread];
  if (t.stopped) return false;
  return t.state == State::kReady || (t.state == State::kPaused && changes_by_others(t) != t.changes_at_pause);
}

void Explorer::count_step() {
  if (++steps_ <= options_.steps_max) return;
  record_failure("livelock: more than " + std::to_string(options_.steps_max) + " steps in one execution");
  give_up();
}

void Explorer::point(const char* operation, const Step& step) {
  count_step();
  operation_ = operation;
  threads_[current_].step = step;
  schedule(Next::kAccess);
  happens(step);
}

// Who sleeps before something that this step conflicts with has a reason to go on.
void Explorer::happens(const Step& step) {
  for (u32 i = 0; i < thread_count_; ++i) {
    if (threads_[i].asleep && threads_[i].step.conflicts(step)) threads_[i].asleep = false;
  }
}

// Returns in the thread that is chosen to go on; a thread that is not chosen returns from here when its turn comes.
void Explorer::schedule(Next next) {
  const u32 self = current_;
  for (;;) {
    std::array<Option, 2 * kThreadsMax + 3> options{};
    u32 count = 0;
    bool is_any_asleep = false;
    const auto offer = [&](u32 thread, Event event) { options[count++] = Option{static_cast<u8>(thread), event}; };
    if (next == Next::kAccess) {
      offer(self, Event::kRun);
      bool others_ready = false;
      for (u32 i = 0; i < thread_count_; ++i) others_ready |= i != self && runnable(i);
      if (may_kill(self) && (threads_[self].step.writes || options_.kill_before_loads)) offer(self, Event::kKill);
      // When a thread that waits its turn dies matters only to who asks.
      const u32 looked_at = threads_[self].step.looks_at;
      if (looked_at != kNobody && looked_at != self && may_kill(looked_at) && threads_[looked_at].started &&
          threads_[looked_at].state != State::kEnded) {
        offer(looked_at, Event::kKill);
      }
      if (stops_ < options_.stops_max && ((options_.stoppable >> self) & 1) != 0 && others_ready)
        offer(self, Event::kStop);
      if (others_ready && (unbounded_ || preemptions_ < options_.preemptions_max)) {
        for (u32 i = 0; i < thread_count_; ++i) {
          if (i != self && runnable(i)) offer(i, Event::kRun);
        }
      }
    } else {
      for (u32 k = 0; k < thread_count_; ++k) {
        // The thread that ran last comes first; before the first choice `self` is none, and the order is 0, 1, ...
        const u32 i = self == kThreadsMax ? k : (self + k) % thread_count_;
        if (!ready(i)) continue;
        if (threads_[i].asleep) {
          is_any_asleep = true;
        } else {
          offer(i, Event::kRun);
        }
        if (may_kill(i) && threads_[i].started) offer(i, Event::kKill);
      }
    }
    if (count == 0) {
      if (is_any_asleep) {
        leave(Outcome::kCut);
        return;  // never: someone was preempted, so this is a fiber
      }
      bool is_any_stopped = false;
      bool is_all_ended = true;
      for (u32 i = 0; i < thread_count_; ++i) {
        is_any_stopped |= threads_[i].stopped;
        is_all_ended &= threads_[i].state == State::kEnded;
      }
      if (is_any_stopped) {
        resume_stopped();
        continue;
      }
      leave(is_all_ended ? Outcome::kEnded : Outcome::kStuck);
      return;  // only outside a fiber
    }
    const Option taken = options[choose_next(options.data(), count, next)];
    if (taken.event == Event::kKill) {
      kill(taken.thread);
      if (taken.thread == self) next = Next::kFree;
    } else if (taken.event == Event::kStop) {
      ++stops_;
      threads_[self].stopped = true;
      if (tracing_)
        note("T" + std::to_string(self) + " STOPPED before " + operation_ + " " + place(threads_[self].step.begin));
      next = Next::kFree;
    } else {
      if (taken.thread != self) {
        if (next == Next::kAccess) {
          ++preemptions_;
          threads_[self].asleep = options_.reduce && !unbounded_;
        }
        switch_to(taken.thread, self != kThreadsMax && threads_[self].state == State::kEnded);
      }
      if (self != kThreadsMax) threads_[self].state = State::kReady;
      return;
    }
  }
}

void Explorer::switch_to(u32 thread, bool gone) {
  Fiber& from = current_ == kThreadsMax ? main_ : *threads_[current_].fiber;
  current_ = thread;
  in_fiber = true;
  ModelThread& to = threads_[thread];
  if (!to.started) {
    to.started = true;
    to.fiber->prepare(fiber_main);
  }
  Fiber::switch_to(from, *to.fiber, gone);
}

void Explorer::kill(u32 thread) {
  ++kills_;
  ++changes_;
  threads_[thread].killed = true;
  threads_[thread].asleep = false;
  threads_[thread].stopped = false;
  threads_[thread].state = State::kEnded;
  if (tracing_) {
    std::string line = "T" + std::to_string(thread) + " KILLED";
    if (thread == current_) line += std::string(" before ") + operation_ + " " + place(threads_[thread].step.begin);
    if (threads_[thread].kill_point != nullptr) line += std::string(", last at ") + threads_[thread].kill_point;
    note(line);
  }
  happens(Step{0, 0, false, true});
}

void Explorer::resume_stopped() {
  for (u32 i = 0; i < thread_count_; ++i) {
    if (!threads_[i].stopped) continue;
    bool others_ended = true;
    for (u32 k = 0; k < thread_count_; ++k) others_ended &= k == i || threads_[k].state == State::kEnded;
    threads_[i].stopped = false;
    if (tracing_) note("T" + std::to_string(i) + " CONTINUED");
    // The scenario looks at its words plainly here: an access would be one of whichever thread happens to run.
    const bool was_in_fiber = std::exchange(in_fiber, false);
    scenario_->on_resumed(static_cast<int>(i), others_ended);
    in_fiber = was_in_fiber;
    if (failed_) leave(Outcome::kFailed);
  }
}

u64 Explorer::random() {
  // splitmix64: any seed will do, and one word is the whole state.
  u64 z = (random_state_ += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// The n-th choice of this execution: given by the prefix if there is one, else the first.
u32 Explorer::choose(u32 count) {
  if (depth_ == choices_.size()) choices_.push_back(Choice{0, static_cast<u16>(count)});
  Choice& choice = choices_[depth_++];
  if (choice.count == 0) choice.count = static_cast<u16>(count);  // a replay from text does not know the counts
  if (choice.count != count || choice.taken >= count) {
    misfit();
    return 0;
  }
  return choice.taken;
}

void Explorer::misfit() {
  record_failure(mode_ == Mode::kReplay ? "these choices do not fit this scenario and these options"
                                        : "the scenario is not deterministic: the same choices led elsewhere");
  give_up();
}

u32 Explorer::choose_next(const Option* options, u32 count, Next next) {
  if (count == 1) return 0;
  if (mode_ == Mode::kWalk) {
    u32 events = 0;
    for (u32 i = 0; i < count; ++i) events += options[i].event != Event::kRun ? 1 : 0;
    const bool wants_event = events == count || (events != 0 && chance(options_.walk_event_percent));
    u32 pick = 0;
    if (wants_event || next == Next::kFree || chance(options_.walk_switch_percent)) {
      u32 among = static_cast<u32>(random() % (wants_event ? events : count - events));
      while ((options[pick].event != Event::kRun) != wants_event || among-- != 0) ++pick;
    }
    choices_.push_back(Choice{static_cast<u16>(pick), static_cast<u16>(count)});
  }
  return choose(count);
}

u32 Explorer::choose_stale(u32 count) {
  if (mode_ == Mode::kWalk) {
    const u32 pick = chance(options_.walk_stale_percent) ? static_cast<u32>(1 + random() % (count - 1)) : 0;
    choices_.push_back(Choice{static_cast<u16>(pick), static_cast<u16>(count)});
  }
  return choose(count);
}

// --------------------------------------------------------------------------------------------------------- accesses

Cell& Explorer::cell(u64 address, u32 size) {
  Cell* found = nullptr;
  const Memory::Access access = memory_.cell(address, size, found);
  if (access == Memory::Access::kMixedSizes) {
    record_failure(place(address) +
                   " is accessed with 4 and with 8 bytes in one execution; use one size for one address");
  } else if (access == Memory::Access::kChangedBehindUs) {
    record_failure(place(address) +
                   " was changed without the Atomics policy; model threads write shared memory through it");
  }
  if (access != Memory::Access::kOk) give_up();
  return *found;
}

void Explorer::changed() {
  ++changes_;
  ++threads_[current_].own_changes;
}

u64 Explorer::read(u64 address, u32 size, std::memory_order order, u32& distance) {
  Cell& word = cell(address, size);
  distance = 0;
  if (stale_ < options_.stale_max) {
    const u32 count = memory_.readable(word, current_, order, options_.stale_depth);
    if (count > 1) distance = choose_stale(count);
    if (distance != 0) {
      ++stale_;
      threads_[current_].read_stale = true;
    }
  }
  return memory_.read(word, current_, distance, order);
}

u64 Explorer::load(u64 address, u32 size, std::memory_order order) {
  point("load", Step{address, address + size, false, order == std::memory_order_seq_cst});
  u32 distance = 0;
  const u64 value = read(address, size, order, distance);
  if (tracing_) {
    note("T" + std::to_string(current_) + " load  " + order_name(order) + " " + place(address) + " -> " +
         number(value) + (distance != 0 ? "   (STALE by " + std::to_string(distance) + ")" : ""));
  }
  return value;
}

void Explorer::store(u64 address, u32 size, u64 value, std::memory_order order) {
  point("store", Step{address, address + size, true, order == std::memory_order_seq_cst});
  memory_.write(cell(address, size), current_, value, order);
  changed();
  if (tracing_) {
    note("T" + std::to_string(current_) + " store " + order_name(order) + " " + place(address) + " = " + number(value));
  }
}

bool Explorer::cas(u64 address, u32 size, u64& expected, u64 desired, std::memory_order order) {
  point("cas", Step{address, address + size, true, order == std::memory_order_seq_cst});
  Cell& word = cell(address, size);
  const u64 wanted = expected;
  // A failing CAS is a load, and may fail on an old value even where the newest is the expected one: it compares what
  // it reads, and only a success must have read the newest.
  u32 distance = 0;
  if (stale_ < options_.stale_max) {
    const u32 readable = memory_.readable(word, current_, std::memory_order_acquire, options_.stale_depth);
    std::array<u32, kStoresKept> candidates{};
    u32 count = 1;
    for (u32 i = 1; i < readable; ++i) {
      if (word.back(i).value != wanted) candidates[count++] = i;
    }
    if (count > 1) distance = candidates[choose_stale(count)];
    if (distance != 0) {
      ++stale_;
      threads_[current_].read_stale = true;
    }
  }
  const bool is_swapped = distance == 0 && word.back(0).value == wanted;
  if (is_swapped) {
    memory_.replace(word, current_, desired, order);
    changed();
  } else {
    expected = memory_.read(word, current_, distance, std::memory_order_acquire);
  }
  if (tracing_) {
    note("T" + std::to_string(current_) + " cas   " + order_name(order) + " " + place(address) + " " + number(wanted) +
         " -> " + number(desired) + (is_swapped ? "   done" : "   REFUSED, is " + number(expected)) +
         (distance != 0 ? " (STALE by " + std::to_string(distance) + ")" : ""));
  }
  return is_swapped;
}

u64 Explorer::add(u64 address, u32 size, u64 delta, std::memory_order order) {
  point("add", Step{address, address + size, true, order == std::memory_order_seq_cst});
  Cell& word = cell(address, size);
  const u64 old = word.back(0).value;
  const u64 sum = size == 4 ? static_cast<u32>(old + delta) : old + delta;
  memory_.replace(word, current_, sum, order);
  changed();
  if (tracing_) {
    note("T" + std::to_string(current_) + " add   " + order_name(order) + " " + place(address) + " " + number(old) +
         " -> " + number(sum));
  }
  return old;
}

void Explorer::fence(Fence kind) {
  const char* text = "";
  switch (kind) {
    case Fence::kLight:
      text = "publish_fence(false)";
      point(text, Step{0, 0, false, true});
      memory_.light_fence(current_);
      break;
    case Fence::kFull:
      text = "full fence";
      point(text, Step{0, 0, false, true});
      memory_.full_fence(current_);
      break;
    case Fence::kSleep:
      text = "sleep_fence";
      point(text, Step{0, 0, false, true});
      memory_.sleep_fence(current_);
      break;
    // These two change only what the thread itself knows: where they stand among others' steps does not matter.
    case Fence::kRelease:
      text = "overwrite_fence";
      memory_.release_fence(current_);
      break;
    case Fence::kAcquire:
      text = "overread_fence";
      memory_.acquire_fence(current_);
      break;
  }
  if (tracing_) note("T" + std::to_string(current_) + " " + text);
}

// Calls chunk(address, size) for each word that [shared, shared + size) touches, whole or in part.
template <class Chunk>
void Explorer::for_chunks(u64 shared, std::size_t size, const char* operation, bool writes, Chunk chunk) {
  if (size == 0) return;
  const u64 end = shared + size;
  const u64 words = (align_up(end, 8) - (shared & ~u64{7})) / 8;
  const u64 points = options_.copy_points < words ? options_.copy_points : words;
  u64 index = 0;
  for (u64 at = shared; at < end; ++index) {
    if (points != 0 && (index == 0 || index * points / words != (index - 1) * points / words)) {
      point(operation, Step{at & ~u64{7}, align_up(end, 8), writes, false});
    }
    // Bytes over words that were used as u32 are copied as u32.
    const u64 unit = memory_.size_in_use(at) == 4 ? 4 : 8;
    do {
      const u64 next = (at & ~(unit - 1)) + unit;
      const u64 stop = next < end ? next : end;
      chunk(at, static_cast<u32>(stop - at), static_cast<u32>(unit));
      at = stop;
    } while (at < end && (at & 7) != 0);
  }
}

void Explorer::copy_in(u64 shared, const u8* from, std::size_t size) {
  for_chunks(shared, size, "copy_in", true, [&](u64 at, u32 bytes, u32 unit) {
    const u64 base = at & ~u64{unit - 1};
    Cell& word = cell(base, unit);
    u64 value = word.back(0).value;
    std::memcpy(reinterpret_cast<u8*>(&value) + (at - base), from + (at - shared), bytes);
    memory_.write(word, current_, value, std::memory_order_relaxed);
    changed();
    if (tracing_) note("T" + std::to_string(current_) + " copy_in  " + place(base) + " = " + number(value));
  });
}

void Explorer::copy_out(u8* to, u64 shared, std::size_t size) {
  for_chunks(shared, size, "copy_out", false, [&](u64 at, u32 bytes, u32 unit) {
    const u64 base = at & ~u64{unit - 1};
    u32 distance = 0;
    const u64 value = read(base, unit, std::memory_order_relaxed, distance);
    std::memcpy(to + (at - shared), reinterpret_cast<const u8*>(&value) + (at - base), bytes);
    if (tracing_) {
      note("T" + std::to_string(current_) + " copy_out " + place(base) + " -> " + number(value) +
           (distance != 0 ? "   (STALE by " + std::to_string(distance) + ")" : ""));
    }
  });
}

// Looking again makes sense only after somebody changed something. Changes since the *last* pause count, not since this
// one: they may have come between this round's loads. So does a stale read, which could find the newest next time.
void Explorer::pause() {
  ModelThread& thread = threads_[current_];
  count_step();
  const u64 changes = changes_by_others(thread);
  if (changes == thread.changes_at_pause && !thread.read_stale) thread.state = State::kPaused;
  if (tracing_ && thread.state == State::kPaused) note("T" + std::to_string(current_) + " pause, until others store");
  thread.changes_at_pause = changes;
  thread.read_stale = false;
  operation_ = "pause";
  thread.step = Step{};
  schedule(Next::kFree);
}

void Explorer::kill_point(const char* name) {
  threads_[current_].kill_point = name;
  if (tracing_) note("T" + std::to_string(current_) + " -- " + name);
}

bool Explorer::futex_wait(u64 address, u32 expected) {
  point("futex_wait", Step{address, address + 4, false, true});
  // The kernel reads the word behind a full barrier, under the lock that a wake takes.
  memory_.full_fence(current_);
  const u64 value = memory_.read(cell(address, 4), current_, 0, std::memory_order_relaxed);
  if (tracing_) {
    note("T" + std::to_string(current_) + " futex_wait " + place(address) + " expects " + number(expected) + ", is " +
         number(value));
  }
  if (value != expected) return false;
  ModelThread& thread = threads_[current_];
  thread.state = State::kFutex;
  thread.futex_address = address;
  thread.futex_turn = ++futex_turns_;
  schedule(Next::kFree);
  memory_.full_fence(current_);
  if (tracing_) note("T" + std::to_string(current_) + " woken");
  return true;
}

int Explorer::futex_wake(u64 address, int count) {
  point("futex_wake", Step{address, address, false, true});
  memory_.full_fence(current_);
  int woken = 0;
  while (woken < count) {
    ModelThread* first = nullptr;
    for (u32 i = 0; i < thread_count_; ++i) {
      ModelThread& thread = threads_[i];
      if (thread.state != State::kFutex || thread.futex_address != address) continue;
      if (first == nullptr || thread.futex_turn < first->futex_turn) first = &thread;
    }
    if (first == nullptr) break;
    first->state = State::kReady;
    ++woken;
  }
  if (tracing_)
    note("T" + std::to_string(current_) + " futex_wake " + place(address) + " wakes " + std::to_string(woken));
  return woken;
}

// Who only asks whether a thread was killed must not learn from the view whether it ended: nothing marks that moment
// for the schedule unless the thread may be killed.
bool Explorer::has_ended(int id, bool waits, bool& killed) {
  const u32 looked_at = static_cast<u32>(id);
  MOORING_CHECK(looked_at < thread_count_);
  point("has_ended", Step{0, 0, false, true, looked_at});
  const ModelThread& thread = threads_[looked_at];
  const bool ended = thread.state == State::kEnded;
  killed = thread.killed;
  if (ended && (killed || waits)) memory_.observe_end(current_, looked_at);
  if (tracing_) {
    note("T" + std::to_string(current_) + " finds T" + std::to_string(id) +
         (ended ? (killed ? " killed" : " ended") : " alive"));
  }
  return ended;
}

// ------------------------------------------------------------------------------------------------------------ trace

void Explorer::note(std::string line) {
  if (tracing_) trace_.push_back(std::to_string(trace_.size() + 1) + "  " + std::move(line));
}

void Explorer::name(u64 begin, std::size_t bytes, std::size_t stride, const char* text) {
  if (tracing_) names_.push_back(Name{begin, bytes, stride, text});
}

std::string Explorer::place(u64 address) const {
  if (address == 0) return "";
  for (const Name& entry : names_) {
    if (address < entry.begin || address >= entry.begin + entry.bytes) continue;
    if (entry.bytes <= entry.stride) return entry.text;
    const u64 offset = address - entry.begin;
    std::string text = entry.text + "[" + std::to_string(offset / entry.stride) + "]";
    if (offset % entry.stride != 0) text += "+" + std::to_string(offset % entry.stride);
    return text;
  }
  // Not the address: it differs from run to run, and a trace should not.
  const u32 size = memory_.size_in_use(address);
  const u32 index = size == 0 ? kNever : memory_.cell_index(address, size);
  return index == kNever ? "a new word" : "word#" + std::to_string(index);
}

void name_word(const void* address, const char* name) { name_words(address, 8, 8, name); }

void name_words(const void* address, std::size_t bytes, std::size_t stride, const char* name) {
  if (Explorer* explorer = Explorer::active()) explorer->name(reinterpret_cast<u64>(address), bytes, stride, name);
}

void explorer_check(bool condition, const char* text) {
  if (condition || Explorer::active() == nullptr) return;
  Explorer::active()->record_failure(text);
  Explorer::active()->give_up();
}

void explorer_check_equal(u64 actual, u64 wanted, const char* text) {
  if (actual == wanted || Explorer::active() == nullptr) return;
  Explorer::active()->record_failure(std::string(text) + ": is " + number(actual) + ", not " + number(wanted));
  Explorer::active()->give_up();
}

bool explorer_is_killed(int id) {
  bool killed = false;
  Explorer* explorer = Explorer::running();
  return explorer != nullptr && explorer->has_ended(id, false, killed) && killed;
}

bool explorer_wait_end(int id) {
  bool killed = false;
  Explorer* explorer = Explorer::running();
  if (explorer == nullptr) return false;
  while (!explorer->has_ended(id, true, killed)) explorer->pause();
  return killed;
}

int explorer_thread_id() { return Explorer::running() == nullptr ? -1 : Explorer::running()->thread_id(); }

bool explorer_futex_wait(const u32& word, u32 expected) {
  Explorer* explorer = Explorer::running();
  return explorer != nullptr && explorer->futex_wait(reinterpret_cast<u64>(&word), expected);
}

int explorer_futex_wake(const u32& word, int count) {
  Explorer* explorer = Explorer::running();
  return explorer == nullptr ? 0 : explorer->futex_wake(reinterpret_cast<u64>(&word), count);
}

}  // namespace mooring::model
