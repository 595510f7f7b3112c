/* order_ring.pml - Spin model of the order ring, one competing group, and the supervisor's repairs, of a volatile
 * queue (core.md 5.1, 5.3, 5.4; A12, A16, A17; src/ring/order_ring.hpp, src/group/competing.hpp, src/group/repair.hpp).
 *
 * MODELLED  (sequentially consistent; every load and every CAS of a shared word is a step of its own; a CAS loop that
 * computes its new value from what it replaces is one step, the one that succeeds)
 *   Publish: cached R, read on past ACKED words; load of the cell; `tail` read again after it; CAS; raise of `tail`.
 *   Lease, READY words: `back` first, then `base`; words from `back` on to the first untouched one; CAS of exactly the
 *   word read. Nothing found: `back` to NONE, by CAS from the value read before the scan.
 *   Lease, new words: from max(own scan, base, hint); load of the cell (visible?), load of the state word, `base` read
 *   again after it, CAS of exactly the word read; raise of `hint`.
 *   Copy-out: from the cell while its lap is right, else from the park entry.
 *   `back` is one word {generation, lowest READY seq or NONE}: who gives back makes the word READY, then changes `back`
 *   to {generation + 1, min(seq, old)}, always, also where the old seq is lower.
 *   Ack, helping of `base` (stops at MOVED), release by the owner (MAXR times).
 *   Supervisor: the sweep of a dead consumer (window: LEASED to READY in place, the lowest READY announced; X), the
 *   tick that mends `back` for a READY word at base, step of base over ACKED and proven MOVED words.
 *   -DPARK: stragglers of living owners through X (PREP, MOVED, live; chosen freely at base), reap, and how consumers
 *   find what is READY in X: a bit per entry, and `parked` {tag, some}, cleared like `back`.
 *   Loss of all the supervisor's locals, MAXS times, between any two of its stores; it starts with the reconciliation.
 *   Faults (MAXF in all): a client is killed after any of its stores, or stopped there for good. A client that is
 *   slow, or stopped and continued, is an interleaving. What is dead is confirmed dead.
 *   -DLAZY: raises of `tail` and `hint`, and helping of `base`, may be left out (hints are lazy, A22).
 *   -DTM=3: laps are compared as signed 2-bit tags, so that a long stop meets its own tag again; CAS compares the
 *   exact word (stands for the whole word, reference included, and 2^28 laps).
 *
 * CHECKED
 *   O1 a cell is reused only after its message is finished;
 *   O2 no two holders at once;
 *   O3 an acknowledged message is never leased again;
 *   O4 an owner can always acknowledge;
 *   O5 an owner gets its own payload, also after it was parked;
 *   O6 nothing published is lost;
 *   O7 every READY word is covered by `back`, unless its giver stands, or was killed or stopped, between the two CAS
 *      (sweep, tick and reconciliation mend that; in the model the tick mends nothing else, so that it hides no bug);
 *   O8 nobody sleeps beside work: no deadlock, except behind what a stopped consumer holds (without -DPARK that may be
 *      the whole window: faults without it need no more messages than N).
 *
 * SEEDED BUGS, each must be found
 *   -DTWOWAY     publish tests "my lap or not"                             -> a newer message overwritten
 *   -DNOTAILRE   `tail` not read again after the cell (with -DTM=3)        -> message overwritten after a long stop
 *   -DNOBASERE   `base` not read again after the state word (with -DTM=3)  -> a word of another lap leased
 *   -DHELPMOVED  helpers step base over MOVED                              -> park ambiguous after a supervisor loss
 *   -DNOGEN      a giver leaves `back` alone when it is low enough         -> READY word unannounced
 *   -DBASEFIRST  the scan reads `base` before `back`                       -> READY word unannounced
 *   -DTOHINT     the scan for READY words ends at `hint`: a word leased before its `hint` was raised lies above it
 *                                                                          -> READY word unannounced
 *   -DNOMEND     the tick does not mend `back`                             -> consumers sleep behind a stopped giver
 *   -DNOANNOUNCE a giver does not touch `back`                             -> consumers sleep beside a READY word
 *   -DBITLATE    a consumer clears the bit of an entry after it looked     -> consumers sleep beside a READY entry
 *
 * NOT MODELLED
 *   Weak memory, the futex protocol (A20), the copy-out loop with `reclaim_seq` (one step here), lanes (lane.pml),
 *   several groups (group_birth.pml; R is a minimum), nack, ack_wait, retry delay, dead letters, blame (a later
 *   issue), durable queues, generations that wrap, reuse of a seat before the sweep is complete, batches, the quotas of
 *   A16.
 *
 * RUN  tests/model/spin/run
 *   By hand: spin -a -DNP=1 -DNC=2 -DM0=2 order_ring.pml && gcc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c && ./pan -m5000
 */
#ifndef N
#define N 2 /* Order cells, and state words. 1 or 2: the supervisor's steps name base and base + 1. */
#endif
#ifndef NP
#define NP 1
#endif
#ifndef NC
#define NC 2
#endif
#ifndef M0
#define M0 2 /* Messages of publisher 0, 1, 2. */
#endif
#ifndef M1
#define M1 0
#endif
#ifndef M2
#define M2 0
#endif
#ifndef NX
#define NX 1
#endif
#ifndef MAXF
#define MAXF 0
#endif
#ifndef MAXS
#define MAXS 0
#endif
#ifndef MAXR
#define MAXR 0
#endif
#ifndef TM
#define TM 255 /* Mask of the lap tags. */
#endif

#define TOT (M0 + M1 + M2)
#define FIRST(id) ((id) == 0 -> 0 : ((id) == 1 -> M0 : M0 + M1))
#define COUNT(id) ((id) == 0 -> M0 : ((id) == 1 -> M1 : M2))

#define LAP(p) ((p) / N)
#define DIFF(a, b) (((a) - (b)) & TM) /* 0: same lap; TM: one behind; up to TM / 2: ahead. */
#define NONE 255

#define UNTOUCHED 0
#define LEASED 1
#define ACKED 2
#define MOVED 3
#define READY 4

#define X_FREE 0
#define X_PREP_LEASED 1
#define X_PREP_READY 2
#define X_LEASED 3
#define X_READY 4
#define X_ACKED 5

byte cell_lap[N], cell_msg[N];
byte word_lap[N], word_kind[N], word_owner[N], word_x[N];
byte base = N, hint = N, tail = N;
byte back_gen = 0, back_seq = NONE;
byte x_state[NX], x_owner[NX], x_msg[NX], x_seq[NX];
bool dead[NC];  /* Confirmed. */
#ifdef PARK
bool ready_bit[NX];
bool some_parked = 0; /* With parked_tag: the `parked` word. */
byte parked_tag = 0;
bool bit_lost[NX];    /* Ghost: whoever cleared the bit, or should have set it, never will go on. */
#endif
byte faults = 0, losses = 0, releases = 0;

/* Ghosts. */
bool published[TOT], acked[TOT];
byte holder[TOT];       /* Client + 1, or 0. */
byte giving[NC + 1];    /* The seq whose word this client (last: the supervisor) made READY and has not announced. */
bool given_up[NC + 1];  /* It never will. */
byte pubs = 0, acks = 0, held_for_good = 0, producers_done = 0, consumers_done = 0;

#define IS(p, kind_) (word_lap[(p) % N] == LAP(p) && word_kind[(p) % N] == (kind_))
#define TAG_IS(p, kind_) (DIFF(word_lap[(p) % N], LAP(p)) == 0 && word_kind[(p) % N] == (kind_))
#define COVERED(p) (back_seq != NONE && back_seq <= (p))
#define ALL_SETTLED (acks + held_for_good == pubs && producers_done == NP)
#if NC == 1
#define IN_FLIGHT(p) (giving[0] == (p) || giving[1] == (p))
#else
#define IN_FLIGHT(p) (giving[0] == (p) || giving[1] == (p) || giving[2] == (p))
#endif
#define ANNOUNCED(p) (!IS(p, READY) || COVERED(p) || IN_FLIGHT(p))

/* O7, at the only steps that can break it: those that change `back`. */
#if N == 1
#define CHECK_BACK assert(ANNOUNCED(base))
#else
#define CHECK_BACK assert(ANNOUNCED(base) && ANNOUNCED(base + 1))
#endif

/* The second half of a give-back: the word is READY already. `whose`: the ghost of this giver. */
inline announce(whose, seq) {
  d_step {
#ifdef NOANNOUNCE
    if :: false ->
#else
#ifdef NOGEN
    if :: back_seq == NONE || back_seq > seq ->
#else
    if :: true ->
#endif
#endif
          back_gen++;
          back_seq = (back_seq == NONE || seq < back_seq -> seq : back_seq)
       :: else
    fi;
    giving[whose] = 0;
#ifndef NOANNOUNCE
    CHECK_BACK
#endif
  }
}

#ifdef PARK
/* The entry is READY already. */
inline announce_parked(entry) {
  d_step { ready_bit[entry] = 1; bit_lost[entry] = 0 };
  d_step { parked_tag++; some_parked = 1 }
}
#endif

/* CAS over a run of finished words. Helpers stop at MOVED: only the supervisor knows whether the park is proven. */
inline help_base() {
  b = base;
  s = b;
  do
#ifdef HELPMOVED
  :: s < b + N && (TAG_IS(s, ACKED) || TAG_IS(s, MOVED)) -> s++
#else
  :: s < b + N && TAG_IS(s, ACKED) -> s++
#endif
  :: else -> break
  od;
  atomic { if :: base == b -> base = s :: else fi; b = 0; s = 0 }
}

/* The word has left the owner's name in the window only through X: PREP was written before MOVED. */
inline settle_parked(live_state, prep_state) {
  d_step {
    m = 0;
    do
    :: m < NX && !(x_seq[m] == s && x_owner[m] == id && (x_state[m] == X_LEASED || x_state[m] == X_PREP_LEASED)) -> m++
    :: else -> break
    od;
    assert(m < NX); /* O4 */
    x_state[m] = (x_state[m] == X_LEASED -> live_state : prep_state);
    holder[v] = 0;
    if
    :: live_state == X_ACKED -> assert(!acked[v]); acked[v] = 1; acks++; m = 0
    :: else -> bit_lost[m] = 0
    fi
  }
}

/* What the next scan finds if it is left alone. */
#define FINDS_NEW(p) (cell_lap[(p) % N] == LAP(p) && word_lap[(p) % N] == LAP(p) - 1 && hint <= (p) && scan <= (p))
#if N == 1
#define FINDS_ANY_NEW FINDS_NEW(base)
#else
#define FINDS_ANY_NEW (FINDS_NEW(base) || FINDS_NEW(base + 1))
#endif
#ifdef PARK
#define FINDS_PARKED some_parked
#else
#define FINDS_PARKED false
#endif
#if NX == 1
#define X_HAS_ROOM (x_state[0] == X_FREE)
#define X_FREE_ENTRY 0
#else
#define X_HAS_ROOM (x_state[0] == X_FREE || x_state[1] == X_FREE)
#define X_FREE_ENTRY (x_state[0] == X_FREE -> 0 : 1)
#endif

proctype Producer(byte id) {
  byte k = 0, t, w, r, rc = 0;
  do
  :: k == COUNT(id) -> break
  :: k < COUNT(id) ->
     t = tail;
     do
     :: t >= rc + N ->
        rc = base;
        do
        :: TAG_IS(rc, ACKED) -> rc++
        :: else -> break
        od;
        if
        :: t >= rc + N -> /* Full: sleeps only while it is. */
           if
           :: base + N > t || cell_lap[t % N] >= LAP(t) || IS(base, ACKED)
           :: consumers_done == NC -> goto out
           fi
        :: else
        fi
     :: t < rc + N ->
        w = cell_lap[t % N];
        if
#ifdef TWOWAY
        :: DIFF(w, LAP(t)) == 0 ->
#else
        :: DIFF(w, LAP(t)) <= TM / 2 ->
#endif
           d_step { t = (tail > t + 1 -> tail : t + 1); w = 0 }
#ifdef TWOWAY
        :: DIFF(w, LAP(t)) != 0 ->
#else
        :: DIFF(w, LAP(t)) > TM / 2 ->
           assert(TM != 255 || DIFF(w, LAP(t)) == TM);
#endif
#ifndef NOTAILRE
           if :: atomic { tail > t -> t = tail; w = 0 }; goto again :: else fi;
#endif
           if
           :: atomic { faults < MAXF -> faults++; goto out } /* Nothing published. */
           :: d_step {
                if
                :: cell_lap[t % N] == w ->
                   assert(t < 2 * N || base > t - N || IS(t - N, ACKED)); /* O1 */
                   assert(w == LAP(t) - 1);
                   cell_lap[t % N] = LAP(t);
                   cell_msg[t % N] = FIRST(id) + k;
                   published[FIRST(id) + k] = 1;
                   pubs++;
                   r = 1
                :: else -> r = 0
                fi;
                w = 0
              }
           fi;
           if :: r == 1 -> r = 0; break :: else fi
        fi;
again:  skip
     od;
     if
     :: atomic { faults < MAXF -> faults++; goto out } /* Before the hint. */
#ifdef LAZY
     :: true
#endif
     :: d_step { if :: tail < t + 1 -> tail = t + 1 :: else fi }
     fi;
     atomic { k++; t = 0 }
  od;
out:
  producers_done++
}

#define GIVES_UP if :: giving[id] -> given_up[id] = 1 :: else fi
#define KILLED atomic { faults < MAXF -> faults++; dead[id] = 1; GIVES_UP; goto fin }
#define STOPPED atomic { faults < MAXF -> faults++; GIVES_UP; \
                         if :: holder[v] == id + 1 -> held_for_good++ :: else fi; goto fin }
#define KILLED_WITH_BIT atomic { faults < MAXF -> faults++; dead[id] = 1; bit_lost[m] = 1; goto fin }
#define STOPPED_WITH_BIT atomic { faults < MAXF -> faults++; bit_lost[m] = 1; goto fin }

inline take(seq_) {
  v = cell_msg[(seq_) % N];
  assert(!acked[v] && holder[v] == 0); /* O2, O3 */
  holder[v] = id + 1;
  word_lap[(seq_) % N] = LAP(seq_); word_kind[(seq_) % N] = LEASED; word_owner[(seq_) % N] = id
}

/* What is READY in X: the bit first, then the word, so that an entry that becomes READY behind the look sets its bit
   behind the clear. Leaves w = 1 and the lease in s, v, or w = 0. */
inline lease_parked() {
  m = 0;
  do
  :: m < NX && !ready_bit[m] -> m++
  :: m < NX && ready_bit[m] ->
#ifdef BITLATE
     wk = x_state[m];
     ready_bit[m] = 0;
#else
     ready_bit[m] = 0;
     if :: KILLED_WITH_BIT :: STOPPED_WITH_BIT :: wk = x_state[m] fi;
#endif
     if
     :: wk == X_READY ->
        d_step {
          wk = 0;
          if
          :: x_state[m] == X_READY ->
             x_state[m] = X_LEASED; x_owner[m] = id; v = x_msg[m]; s = x_seq[m]; m = 0; w = 1;
             assert(!acked[v] && holder[v] == 0); /* O2, O3 */
             holder[v] = id + 1
          :: else -> m++
          fi
        };
        if :: w == 1 -> break :: else fi
     :: else -> atomic { wk = 0; m++ }
     fi
  :: m == NX ->
     d_step { if :: some_parked && parked_tag == tag -> some_parked = 0 :: else fi; m = 0 };
     break
  od
}

proctype Consumer(byte id) {
  byte scan = N; /* Every word below was touched when this consumer looked. */
  byte s, b, v, m, og, os, w, wk;
#ifdef PARK
  byte tag;
  bool parks;
#endif
  do
  ::
#ifdef PARK
     d_step { parks = some_parked; tag = parked_tag };
     if
     :: parks -> /* Their turn. */
        lease_parked();
        if :: w == 1 -> goto got_parked :: else fi
     :: true
     fi;
#endif
     /* READY words: `back` before `base`, so that what it covers lies in the window. */
#ifdef BASEFIRST
     b = base;
     d_step { og = back_gen; os = back_seq };
#else
     d_step { og = back_gen; os = back_seq };
#endif
     if
     :: os != NONE ->
#ifndef BASEFIRST
        b = base;
#endif
        s = (os > b && os < b + N -> os : b);
        do
        :: s >= b + N -> break
#ifdef TOHINT
        :: s < b + N && s >= hint -> break
#endif
        :: s < b + N ->
           d_step { w = word_lap[s % N]; wk = word_kind[s % N] };
           if
           :: DIFF(w, LAP(s)) > TM / 2 -> break /* Untouched, and so is everything behind it. */
           :: DIFF(w, LAP(s)) == 0 && wk == READY ->
              d_step {
                if
                :: word_lap[s % N] == w && word_kind[s % N] == READY ->
                   assert(cell_lap[s % N] == LAP(s) && w == LAP(s) && base <= s);
                   take(s);
                   w = 1
                :: else -> w = 0; s++ /* Another took it. */
                fi;
                wk = 0
              };
              if :: w == 1 -> goto got :: else fi
           :: else -> atomic { w = 0; wk = 0; s++ }
           fi
        od;
        /* From the value read before the scan: whoever gave back since has changed it. */
        atomic {
          if :: back_gen == og && back_seq == os -> back_gen++; back_seq = NONE; CHECK_BACK :: else fi;
          og = 0; os = 0; s = 0; b = 0; w = 0; wk = 0
        }
     :: os == NONE -> og = 0; os = 0
     fi;
     /* New words. */
     b = base;
     s = (hint > scan -> hint : scan);
     if :: s < b -> s = b :: else fi;
     do
     :: s >= b + N ->
        b = base;
        if
        :: s >= b + N -> scan = (s > b + N -> b : s); break /* WINDOW */
        :: else
        fi
     :: s < b + N ->
        if
        :: DIFF(cell_lap[s % N], LAP(s)) > TM / 2 -> scan = s; break /* EMPTY */
        :: else
        fi;
        d_step { w = word_lap[s % N]; wk = word_kind[s % N] };
        if
        :: DIFF(w, LAP(s)) == 0 -> atomic { w = 0; wk = 0; s++ }
        :: else ->
#ifndef NOBASERE
           if
           :: atomic { base > s -> b = base; s = base; w = 0; wk = 0; goto again }
           :: else
           fi;
           assert(DIFF(w, LAP(s)) == TM);
#endif
           d_step {
             if
             :: word_lap[s % N] == w && word_kind[s % N] == wk ->
                assert(cell_lap[s % N] == LAP(s) && w == LAP(s) - 1 && base <= s);
                take(s);
                w = 1
             :: else -> w = 0
             fi;
             wk = 0
           };
           if :: w == 1 -> scan = s + 1; goto got_new :: else fi
        fi;
again:  skip
     od;
     atomic { s = 0; b = 0; w = 0; wk = 0 };
#ifdef PARK
     if
     :: parks ->
        lease_parked();
        if :: w == 1 -> goto got_parked :: else fi
     :: else
     fi;
     atomic { parks = 0; tag = 0 };
#endif
     help_base();
     if
     :: ALL_SETTLED -> goto fin
     :: else ->
        /* Sleeps. Whatever ends the sleep is something that the next look would find: O8. */
        (ALL_SETTLED || back_seq != NONE || IS(base, ACKED) || FINDS_PARKED || FINDS_ANY_NEW)
     fi;
     goto next;
got_new:
     if
     :: KILLED
     :: STOPPED
#ifdef LAZY
     :: true
#endif
     :: d_step { if :: hint < s + 1 -> hint = s + 1 :: else fi }
     fi;
got:
     atomic { w = 0; b = 0; og = 0; os = 0 };
#ifdef PARK
     /* Copy-out: the cell while it is still ours, else the park entry that was written before MOVED. */
     d_step {
       if
       :: cell_lap[s % N] == LAP(s) -> assert(cell_msg[s % N] == v)
       :: else ->
          m = 0;
          do
          :: m < NX && !(x_seq[m] == s && x_owner[m] == id &&
                         (x_state[m] == X_LEASED || x_state[m] == X_PREP_LEASED)) -> m++
          :: else -> break
          od;
          assert(m < NX && x_msg[m] == v); /* O5 */
          m = 0
       fi
     };
got_parked:
     atomic { w = 0; parks = 0; tag = 0 };
#endif
     if
     :: KILLED
     :: STOPPED
     :: atomic { releases < MAXR -> releases++ };
        d_step {
          if
          :: IS(s, LEASED) && word_owner[s % N] == id -> word_kind[s % N] = READY; holder[v] = 0; giving[id] = s; w = 1
          :: else -> w = 0
          fi
        };
        if
        :: w == 1 ->
           w = 0;
           if :: KILLED :: STOPPED :: announce(id, s) fi
        :: else ->
#ifdef PARK
           settle_parked(X_READY, X_PREP_READY);
           if :: KILLED_WITH_BIT :: STOPPED_WITH_BIT :: announce_parked(m); m = 0 fi
#else
           assert(false)
#endif
        fi
     :: d_step {
          if
          :: IS(s, LEASED) && word_owner[s % N] == id ->
             word_kind[s % N] = ACKED;
             assert(!acked[v]);
             acked[v] = 1; acks++; holder[v] = 0; w = 1
          :: else -> w = 0
          fi
        };
        if
        :: w == 1 -> w = 0
        :: else ->
#ifdef PARK
           settle_parked(X_ACKED, X_ACKED)
#else
           assert(false)
#endif
        fi;
        if
        :: KILLED
#ifdef LAZY
        :: true
#endif
        :: help_base()
        fi
     fi;
next:
     atomic { s = 0; v = 0; w = 0 }
  od;
fin:
  consumers_done++
}

#define LOSS atomic { losses < MAXS -> losses++; if :: giving[NC] -> given_up[NC] = 1 :: else fi; goto restart }
#define LOSS_WITH_BIT atomic { losses < MAXS -> losses++; bit_lost[x] = 1; goto restart }
#define LOST_GIVER(p) ((giving[0] == (p) && given_up[0]) || (giving[NC] == (p) && given_up[NC]) || \
                       (NC > 1 && giving[1] == (p) && given_up[1]))

/* Announces a READY word for whoever should have. */
inline mend(seq) {
  d_step {
    back_gen++;
    back_seq = (back_seq == NONE || seq < back_seq -> seq : back_seq);
    c = 0;
    do
    :: c <= NC -> if :: giving[c] >= seq && (given_up[c] || c == NC) -> giving[c] = 0; given_up[c] = 0 :: else fi; c++
    :: else -> break
    od;
    c = 0;
    CHECK_BACK
  }
}

#ifdef PARK
#define PREP(x_) (x_state[x_] == X_PREP_LEASED || x_state[x_] == X_PREP_READY)
/* K4: fails only if the owner settled meanwhile. */
inline finish_park() {
  d_step {
    g = 0;
    if
    :: x_state[x] == X_PREP_LEASED -> x_state[x] = X_LEASED
    :: x_state[x] == X_PREP_READY -> x_state[x] = X_READY; g = 1
    :: else
    fi
  };
  if
  :: g == 1 ->
     if :: LOSS_WITH_BIT :: announce_parked(x) fi;
     g = 0
  :: else
  fi
}
#endif

proctype Supervisor() {
  byte s, x, c, g, low;
  byte swept = 0; /* Bit per client. Kept over a loss: it is the seat's state, stored after the full pass. */
restart:
  atomic { s = 0; x = 0; c = 0; g = 0; low = NONE };
  if
  :: losses == 0 -> goto serve
  :: else
  fi;
#ifdef PARK
  /* PREP: proven by MOVED in the word (nobody else steps base over it), or it never happened. READY: announced. */
  do
  :: x < NX ->
     if
     :: PREP(x) ->
        if
        :: base <= x_seq[x] && IS(x_seq[x], MOVED) && word_x[x_seq[x] % N] == x -> finish_park()
        :: else -> x_state[x] = X_FREE
        fi
     :: x_state[x] == X_READY -> announce_parked(x)
     :: else
     fi;
     x++
  :: else -> break
  od;
  x = 0;
#endif
  s = base;
  c = s + N;
  do
  :: s < c && !IS(s, READY) -> s++
  :: s < c && IS(s, READY) -> mend(s); break
  :: s == c -> break
  od;
  atomic { s = 0; c = 0 };
serve:
  do
  :: /* The sweep of one dead consumer: the whole window, then X, then its seat is free. */
     atomic {
       if
       :: dead[0] && !(swept & 1) -> g = 0
#if NC > 1
       :: dead[1] && !(swept & 2) -> g = 1
#endif
       fi;
       s = base; c = s + N; low = NONE
     };
     do
     :: s < c ->
        d_step {
          if
          :: IS(s, LEASED) && word_owner[s % N] == g ->
             word_kind[s % N] = READY; holder[cell_msg[s % N]] = 0;
             giving[NC] = s; given_up[NC] = 0;
             low = (s < low -> s : low)
          :: IS(s, READY) -> low = (s < low -> s : low) /* Perhaps of one that was killed before it said so. */
          :: else
          fi;
          s++
        }
     :: s == c -> break
     od;
     if
     :: low != NONE ->
        if :: LOSS :: mend(low) fi
     :: else
     fi;
#ifdef PARK
     x = 0;
     do
     :: x < NX ->
        if
        :: d_step { x_owner[x] == g && x_state[x] == X_LEASED -> x_state[x] = X_READY; holder[x_msg[x]] = 0 };
           if :: LOSS_WITH_BIT :: announce_parked(x) fi
        :: else
        fi;
        x++
     :: else -> break
     od;
#endif
     atomic { swept = swept | (1 << g); s = 0; x = 0; c = 0; g = 0; low = NONE }
#ifndef NOMEND
  :: /* The tick. */
     atomic { IS(base, READY) && back_seq == NONE && LOST_GIVER(base) -> s = base };
     mend(s);
     s = 0
#endif
  :: d_step { IS(base, ACKED) -> base++ }
#ifdef PARK
  :: d_step { IS(base, MOVED) && !(PREP(word_x[base % N]) && x_seq[word_x[base % N]] == base) -> base++ }
  :: /* Reap. */
     d_step { x_state[0] == X_ACKED && base > x_seq[0] -> x_state[0] = X_FREE }
  :: /* The tick announces entries whose bit was lost. */
     atomic { x_state[0] == X_READY && bit_lost[0] -> x = 0 };
     announce_parked(x);
     x = 0
#if NX > 1
  :: d_step { x_state[1] == X_ACKED && base > x_seq[1] -> x_state[1] = X_FREE }
  :: atomic { x_state[1] == X_READY && bit_lost[1] -> x = 1 };
     announce_parked(x);
     x = 0
#endif
  :: /* A straggler: living as far as the supervisor knows; it may die, acknowledge or release at any step of this. */
     atomic {
       IS(base, LEASED) && !dead[word_owner[base % N]] && X_HAS_ROOM -> x = X_FREE_ENTRY;
       s = base; c = word_owner[base % N]
     };
     d_step { x_seq[x] = s; x_msg[x] = cell_msg[s % N]; x_owner[x] = c; x_state[x] = X_PREP_LEASED };
     if
     :: LOSS
     :: d_step {
          if
          :: IS(s, LEASED) && word_owner[s % N] == c -> word_kind[s % N] = MOVED; word_x[s % N] = x; g = 1
          :: else -> x_state[x] = X_FREE; g = 0
          fi
        }
     fi;
     if
     :: g == 1 ->
        if :: LOSS :: finish_park() fi
     :: else
     fi;
     atomic { s = 0; x = 0; c = 0; g = 0 }
#endif
  :: consumers_done == NC && producers_done == NP -> break
  od
}

init {
  byte i, p;
  bool found;
  atomic {
    i = 0;
    do
    :: i < NP -> run Producer(i); i++
    :: else -> break
    od;
    i = 0;
    do
    :: i < NC -> run Consumer(i); i++
    :: else -> break
    od;
    i = 0;
    run Supervisor()
  };
  (consumers_done == NC && producers_done == NP);
  d_step { /* O6: acknowledged, or still in the window, or parked. */
    do
    :: i < TOT ->
       if
       :: published[i] && !acked[i] ->
          found = 0; p = 0;
          do
          :: p < N ->
             if
             :: cell_lap[p] > 0 && cell_msg[p] == i &&
                !(word_lap[p] == cell_lap[p] && (word_kind[p] == ACKED || word_kind[p] == MOVED)) -> found = 1
             :: else
             fi;
             p++
          :: else -> break
          od;
          p = 0;
          do
          :: p < NX -> if :: x_state[p] != X_FREE && x_msg[p] == i -> found = 1 :: else fi; p++
          :: else -> break
          od;
          assert(found)
       :: else
       fi;
       i++
    :: else -> break
    od
  }
}
