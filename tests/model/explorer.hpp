// Interleaving explorer: runs the shipped templates as model threads and tries every schedule within bounds.
//
// ExplorerAtomics has the interface of HardwareAtomics (base/atomics.hpp), so ring and group code instantiates with it
// unchanged. Each access is a point where the explorer chooses: who runs next, which store a load reads (memory.hpp has
// the rules), whether the thread is killed here (its fiber is abandoned, its stores stay) or stopped here (it goes on
// only when all others have ended or wait). A run is replayed from its choices, so nothing is saved and restored:
// a fresh Scenario for each execution, and depth-first search over the choice vector.
//
//   struct Handoff : Scenario {
//     u64 data = 0, flag = 0;
//     Handoff() { name_word(&data, "data"); name_word(&flag, "flag"); }
//     void thread(int id) override {
//       if (id == 0) {
//         ExplorerAtomics::store(data, u64{42}, std::memory_order_relaxed);
//         ExplorerAtomics::kill_point("handoff.written");
//         ExplorerAtomics::store(flag, u64{1}, std::memory_order_release);
//       } else {
//         while (ExplorerAtomics::load(flag, std::memory_order_acquire) == 0) ExplorerAtomics::pause();
//         explorer_check(ExplorerAtomics::load(data, std::memory_order_relaxed) == 42, "the flag came before the
//         data");
//       }
//     }
//     void check_end() override { explorer_check(flag == 1, "the flag was lost"); }  // plain reads are fine here
//   };
//   TEST(Handoff, DataComesWithTheFlag) {
//     Options options;                                  // 2 threads, 3 preemptions, 2 stale loads
//     Result result = Explorer(options, each<Handoff>()).explore();
//     EXPECT_TRUE(result.exhaustive && !result.failed) << result.text();
//   }                                                   // a failure prints choices: Explorer(...).replay("dfs 0 2 1")
//
// WHAT A SCENARIO KEEPS TO
//   Shared words live in the scenario (or what it owns) and are set plainly in its constructor; once threads run they
//     change through ExplorerAtomics only (a plain write is noticed and reported). Memory given to copy_in and copy_out
//     is aligned to 8 bytes and a multiple of 8 long. One address is used as a u64 or as u32, not both.
//   It is deterministic: no clock, no randomness, no decision by the value of an address.
//   A model thread holds no heap memory on its stack when it may be killed or fail: it is abandoned, not unwound.
//   A loop that waits calls pause(): the thread then rests until another has stored something. If all rest, on_stuck().
//
// WHAT EXHAUSTIVE MEANS  Every execution with at most preemptions_max preemptions, stale_max stale loads (each at most
//   stale_depth stores back), kills_max kills and stops_max stops. Switches at pause, stop, kill and end are free.
//   Preemptions happen before an access, never between two private steps. A running thread is killed before any access
//   and at its end; one that waits its turn, where somebody asks whether it is dead, and where another waits or ends.
//   Only the running thread is stopped: leaving others unscheduled is a choice of schedule anyway.
//   It does not run under ThreadSanitizer (kExplorerSupported).
//
// WHAT IS LEFT OUT  A thread that was preempted before an access does not go on until somebody did something that
//   conflicts with that access (the same word and one of the two writes; or both are fences, seq_cst, futex or death).
//   Without such a conflict the access could as well have come before the preemption, which is tried too and costs no
//   more preemptions. That is about shared words: a scenario whose private notes depend on the order in which two
//   threads write them between accesses sets reduce = false. (Measured on the ring of explorer_test: a tenth of
//   the executions. The test also compares the outcomes of random programs with and without.)
//
// TESTED BY  model/explorer_test
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "base/atomics.hpp"
#include "base/bytes.hpp"
#include "model/fiber.hpp"
#include "model/memory.hpp"

namespace mooring::model {

#ifdef MOORING_TSAN
// TSan would take each abandoned fiber for a call that never returned.
inline constexpr bool kExplorerSupported = false;
#else
inline constexpr bool kExplorerSupported = true;
#endif

struct Options {
  int threads = 2;  // at most kThreadsMax
  int preemptions_max = 3;
  u32 stale_max = 2;    // loads of one execution that read an old store
  u32 stale_depth = 3;  // how many stores back such a load may look; at most kStoresKept - 1
  int kills_max = 0;
  u32 killable = 0;  // bit per thread
  int stops_max = 0;
  u32 stoppable = ~u32{0};        // bit per thread
  bool kill_before_loads = true;  // false: only before what changes shared memory, and at the end of the thread
  bool reduce = true;             // leave out preemptions that change nothing (see WHAT IS LEFT OUT)
  u32 copy_points = 2;            // scheduling points of one copy: 1 = before it, 2 = also in the middle, ...
  u64 steps_max = 10'000;         // accesses of one execution; beyond it is a livelock
  u64 executions_max = 0;         // 0 = no limit
  double seconds_max = 0;         // a budget; 0 = no limit
  // walk() has no bound on preemptions; these are the chances at each point.
  u32 walk_switch_percent = 25;
  u32 walk_stale_percent = 20;
  u32 walk_event_percent = 2;  // kill or stop, where possible
};

class Scenario {
 public:
  virtual ~Scenario() = default;
  virtual void thread(int id) = 0;
  // After the last thread ended (or on_stuck() said that it is fine).
  virtual void check_end() {}
  // All threads that have not ended wait. Return true if that is how this scenario may end.
  virtual bool on_stuck() { return false; }
  // A stopped thread is about to go on. `others_ended` is false if some other only waits: for the stopped one, perhaps.
  // Reads plainly, like check_end().
  virtual void on_resumed(int /*id*/, bool /*others_ended*/) {}
};

using ScenarioFactory = std::function<std::unique_ptr<Scenario>()>;

// A new T(args...) for each execution. Not copies of one: names are given in the constructor, by address.
template <class T, class... Args>
ScenarioFactory each(Args... args) {
  return [args...]() -> std::unique_ptr<Scenario> { return std::make_unique<T>(args...); };
}

struct Result {
  bool failed = false;
  bool exhaustive = false;  // nothing within the bounds is left to try
  std::string message;
  std::string trace;    // of the failure (or of a replay)
  std::string choices;  // for replay()
  u64 seed = 0;
  // Sums over all executions.
  u64 executions = 0;
  u64 cut = 0;  // executions that `reduce` ended early: they had become a repetition
  u64 steps = 0;
  u64 preemptions = 0;
  u64 stale_reads = 0;
  u64 kills = 0;
  u64 stops = 0;
  u64 stuck = 0;
  double seconds = 0;

  double executions_per_second() const { return seconds > 0 ? static_cast<double>(executions) / seconds : 0; }
  std::string text() const;
};

class Explorer {
 public:
  Explorer(Options options, ScenarioFactory factory);
  ~Explorer();
  Explorer(const Explorer&) = delete;
  Explorer& operator=(const Explorer&) = delete;

  Result explore();
  Result walk(u64 seed, u64 executions);
  Result replay(const std::string& choices);

  // The explorer whose model thread runs now on this OS thread; null elsewhere (then accesses are plain).
  static Explorer* running() { return in_fiber ? the_active : nullptr; }
  static Explorer* active() { return the_active; }

  // What ExplorerAtomics and the functions below call.
  u64 load(u64 address, u32 size, std::memory_order order);
  void store(u64 address, u32 size, u64 value, std::memory_order order);
  bool cas(u64 address, u32 size, u64& expected, u64 desired, std::memory_order order);
  u64 add(u64 address, u32 size, u64 delta, std::memory_order order);
  enum class Fence : u8 { kLight, kFull, kSleep, kRelease, kAcquire };
  void fence(Fence kind);
  void copy_in(u64 shared, const u8* from, std::size_t size);
  void copy_out(u8* to, u64 shared, std::size_t size);
  void pause();
  void kill_point(const char* name);
  bool futex_wait(u64 address, u32 expected);
  int futex_wake(u64 address, int count);
  bool has_ended(int id, bool waits, bool& killed);
  int thread_id() const { return static_cast<int>(current_); }
  void name(u64 begin, std::size_t bytes, std::size_t stride, const char* text);
  // Two steps, because a model thread does not return from the second and so would never free the message.
  void record_failure(std::string message);
  void give_up();

 private:
  enum class State : u8 { kReady, kPaused, kFutex, kEnded };
  enum class Event : u8 { kRun, kKill, kStop };
  enum class Mode : u8 { kSearch, kWalk, kReplay };
  enum class Outcome : u8 { kEnded, kStuck, kFailed, kCut };
  enum class Next : u8 { kAccess, kFree };
  static constexpr u32 kNobody = kThreadsMax;
  // What a thread is about to do, as far as others can tell.
  struct Step {
    u64 begin = 0;
    u64 end = 0;
    bool writes = false;
    bool is_global = false;  // ordered with all other global steps, whatever they touch
    u32 looks_at = kNobody;  // asks whether that thread is dead

    bool conflicts(const Step& other) const {
      return (is_global && other.is_global) || ((writes || other.writes) && begin < other.end && other.begin < end);
    }
  };
  struct ModelThread {
    Step step;
    bool asleep = false;  // preempted before `step`, and nothing since conflicts with it
    std::unique_ptr<Fiber> fiber;
    State state = State::kReady;
    bool started = false;
    bool stopped = false;
    bool killed = false;
    bool read_stale = false;
    u64 own_changes = 0;
    u64 changes_at_pause = 0;
    u64 futex_address = 0;
    u64 futex_turn = 0;
    const char* kill_point = nullptr;
  };
  struct Choice {
    u16 taken;
    u16 count;
  };
  struct Option {
    u8 thread;
    Event event;
  };
  struct Name {
    u64 begin;
    std::size_t bytes;
    std::size_t stride;
    std::string text;
  };

  static void fiber_main();
  Result run_all(Mode mode, u64 executions_max);
  void run_one();
  void add_trace(Result& result);
  bool backtrack();
  std::string choices_text() const;

  void count_step();
  void point(const char* operation, const Step& step);
  void happens(const Step& step);
  void schedule(Next next);
  bool ready(u32 thread) const;
  bool runnable(u32 thread) const { return ready(thread) && !threads_[thread].asleep; }
  u64 changes_by_others(const ModelThread& thread) const { return changes_ - thread.own_changes; }
  bool may_kill(u32 thread) const { return kills_ < options_.kills_max && ((options_.killable >> thread) & 1) != 0; }
  void kill(u32 thread);
  void resume_stopped();
  void leave(Outcome outcome);
  void switch_to(u32 thread, bool gone);
  u32 choose(u32 count);
  void misfit();
  u32 choose_stale(u32 count);
  u32 choose_next(const Option* options, u32 count, Next next);
  u64 random();
  bool chance(u32 percent) { return random() % 100 < percent; }
  Cell& cell(u64 address, u32 size);
  void changed();
  u64 read(u64 address, u32 size, std::memory_order order, u32& distance);
  template <class Chunk>
  void for_chunks(u64 shared, std::size_t size, const char* operation, bool writes, Chunk chunk);

  void note(std::string line);
  std::string place(u64 address) const;

  static constinit thread_local Explorer* the_active;
  static constinit thread_local bool in_fiber;

  Options options_;
  ScenarioFactory factory_;
  std::unique_ptr<Scenario> scenario_;
  Memory memory_;
  Fiber main_;
  std::array<ModelThread, kThreadsMax> threads_;
  u32 thread_count_ = 0;
  u32 current_ = kThreadsMax;

  Mode mode_ = Mode::kSearch;
  bool unbounded_ = false;  // the choices come, or came, from walk()
  std::vector<Choice> choices_;
  std::size_t depth_ = 0;
  u64 random_state_ = 0;

  Outcome outcome_ = Outcome::kEnded;
  bool failed_ = false;
  std::string message_;
  u64 steps_ = 0;
  u64 changes_ = 0;
  u64 futex_turns_ = 0;
  int preemptions_ = 0;
  u32 stale_ = 0;
  int kills_ = 0;
  int stops_ = 0;

  bool tracing_ = false;
  std::vector<std::string> trace_;
  std::vector<Name> names_;
  const char* operation_ = "";
};

// For scenarios. Outside an execution (in a constructor, in check_end) a failed check is kept and the code goes on.
void explorer_check(bool condition, const char* text);
void explorer_check_equal(u64 actual, u64 wanted, const char* text);
// Names for the trace; a range of words is shown as name[index].
void name_word(const void* address, const char* name);
void name_words(const void* address, std::size_t bytes, std::size_t stride, const char* name);
// What a supervisor learns from the kernel: was that thread killed? If so, all it stored is visible.
bool explorer_is_killed(int id);
// Waits for the end of that thread; true if it was killed.
bool explorer_wait_end(int id);
int explorer_thread_id();
// futex(2) without a time limit, so that a lost wake-up shows up as on_stuck(). False: the word had another value.
bool explorer_futex_wait(const u32& word, u32 expected);
int explorer_futex_wake(const u32& word, int count);

struct ExplorerAtomics {
  template <class T>
  static T load(const T& word, std::memory_order order) {
    if (Explorer* explorer = Explorer::running())
      return static_cast<T>(explorer->load(address_of(word), sizeof(T), order));
    return word;
  }
  template <class T>
  static void store(T& word, T value, std::memory_order order) {
    if (Explorer* explorer = Explorer::running()) {
      explorer->store(address_of(word), sizeof(T), bits(value), order);
    } else {
      word = value;
    }
  }
  template <class T>
  static bool cas(T& word, T& expected, T desired, std::memory_order order) {
    if (Explorer* explorer = Explorer::running()) {
      u64 seen = bits(expected);
      const bool swapped = explorer->cas(address_of(word), sizeof(T), seen, bits(desired), order);
      if (!swapped) expected = static_cast<T>(seen);
      return swapped;
    }
    if (word == expected) {
      word = desired;
      return true;
    }
    expected = word;
    return false;
  }
  template <class T>
  static T add(T& word, T delta, std::memory_order order) {
    if (Explorer* explorer = Explorer::running()) {
      return static_cast<T>(explorer->add(address_of(word), sizeof(T), bits(delta), order));
    }
    const T old = word;
    word = static_cast<T>(old + delta);
    return old;
  }

  static void publish_fence(bool fenced) { fence(fenced ? Explorer::Fence::kFull : Explorer::Fence::kLight); }
  static void sleep_fence() { fence(Explorer::Fence::kSleep); }
  static void full_fence() { fence(Explorer::Fence::kFull); }
  static void overwrite_fence() { fence(Explorer::Fence::kRelease); }
  static void overread_fence() { fence(Explorer::Fence::kAcquire); }

  static void copy_in(void* shared, const void* from, std::size_t size) {
    if (Explorer* explorer = Explorer::running()) {
      explorer->copy_in(reinterpret_cast<u64>(shared), static_cast<const u8*>(from), size);
    } else if (size != 0) {
      std::memcpy(shared, from, size);
    }
  }
  static void copy_out(void* to, const void* shared, std::size_t size) {
    if (Explorer* explorer = Explorer::running()) {
      explorer->copy_out(static_cast<u8*>(to), reinterpret_cast<u64>(shared), size);
    } else if (size != 0) {
      std::memcpy(to, shared, size);
    }
  }

  static void prefetch_read(const void* /*address*/) {}
  static void prefetch_write(const void* /*address*/) {}
  static void pause() {
    if (Explorer* explorer = Explorer::running()) explorer->pause();
  }
  static void kill_point(const char* name) {
    if (Explorer* explorer = Explorer::running()) explorer->kill_point(name);
  }

 private:
  template <class T>
  static u64 address_of(const T& word) {
    static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "shared words are u64 or u32");
    return reinterpret_cast<u64>(&word);
  }
  template <class T>
  static u64 bits(T value) {
    return static_cast<u64>(static_cast<std::make_unsigned_t<T>>(value));
  }
  static void fence(Explorer::Fence kind) {
    if (Explorer* explorer = Explorer::running()) explorer->fence(kind);
  }
};

}  // namespace mooring::model
