/* group_birth.pml - Spin model of a group that is born while a publisher computes its release mark (core.md A17).
 *
 * MODELLED  (sequentially consistent)
 *   A volatile queue with one old group (0) and one that is created (1). NP publishers, each with an R of its own,
 *   cached and computed anew only when its window is full: epoch, group table, base of each group in it, on past
 *   ACKED words (never stored), epoch again; another epoch: from the start. (Two are needed: with one, no message is
 *   published while R is computed, so R cannot pass the start.) `tail` is raised with a message, or only with a
 *   later one (a lazy hint, or a publisher stopped before it).
 *   Group 0 acknowledges in order, and raises `base` with an ack or only with a later one.
 *   The supervisor: base = 0, table entry, epoch, start = max(first cell not published, read on from `tail`; every
 *   base), base = start, LIVE. It loses all its locals MAXS times between any two stores and runs the creation again.
 *
 * CHECKED
 *   G1 a cell at or above the start of the new group and not yet consumed by it is never overwritten;
 *   G2 the new group's first message is still there when the group becomes LIVE, and each one after it;
 *   G3 nobody waits for ever: the publisher finishes, both groups read up to its end.
 *
 * SEEDED BUGS, each must be found
 *   -DNOEPOCH     R does not look at the epoch again after the bases        -> a hole in the new group
 *   -DSTARTFIRST  start computed before the group is entered                -> a hole
 *   -DEPOCHFIRST  epoch stored before the table entry                       -> a hole
 *   -DHINTONLY    start = max(tail, every base) as the words stand (A17 to the letter): publishers read on past ACKED
 *                 words, so an R in use may lie above it while `tail` and `base` are lazy
 *                                                                         -> a hole
 *
 * NOT MODELLED
 *   Removal of a group and reuse of its slot, more than one creation at a time, durable queues (R = J), weak memory.
 *
 * RUN  tests/model/spin/run       By hand: spin -a group_birth.pml && gcc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c
 */
#ifndef N
#define N 2
#endif
#ifndef MSGS
#define MSGS 5
#endif
#ifndef MAXS
#define MAXS 1
#endif
#ifndef NP
#define NP 2
#endif
#define END (N + MSGS) /* Sequences run from N to END - 1. */

#define ABSENT 0
#define ENTERED 1
#define LIVE 2

byte cell[N];       /* The seq of the message in each order cell. */
byte tail = N;      /* Hint, never above `top`. */
byte top = N;       /* Ghost: the first seq not yet published. */
byte base[2];       /* Group 0 starts at N (init); group 1 is not there yet. */
byte frontier[2];   /* Every word of the group below it is ACKED (stands for the state words). */
byte entry1 = ABSENT, epoch = 0;
byte start1 = 0;    /* Ghost: the start that was made LIVE. */
byte losses = 0;

/* How far a publisher may find a group to be: base, read on past ACKED words. A read that takes its time ends at most
   where the words are ACKED at its last step, and a lower R only frees less: so one step, at the end of it. */
#define READ_ON(g) (base[g] == 0 -> 0 : frontier[g])

proctype Publisher() {
  byte t, rc = 0, r, e1;
  bool in1;
  do
  :: top == END -> break
  :: atomic { /* The first free cell is the one at `top`: publishers step over the others' (order_ring.pml). */
       top < END && top < rc + N ->
       t = top;
       /* G1: the message overwritten here is not one that the new group still needs. */
       assert(t < 2 * N || frontier[0] > t - N);
       assert(entry1 != LIVE || t - N < start1 || frontier[1] > t - N);
       cell[t % N] = t;
       top = t + 1;
       t = 0;
       if :: tail = top :: true fi /* Now, or only with a later message. */
     }
  :: top < END && top >= rc + N ->
again:
     e1 = epoch;
     in1 = (entry1 != ABSENT);
     r = READ_ON(0);
     if
     :: in1 -> d_step { r = (READ_ON(1) < r -> READ_ON(1) : r); in1 = 0 }
     :: else
     fi;
#ifndef NOEPOCH
     if :: epoch != e1 -> goto again :: else fi;
#endif
     atomic { rc = r; e1 = 0; r = 0 };
     if
     :: top >= rc + N -> /* Full: wait until a group moves on, or the table changes. */
        (top == END || (frontier[0] + N > top && (entry1 == ABSENT || (entry1 == LIVE && frontier[1] + N > top))))
     :: else
     fi
  od
}

proctype Reader(byte g) {
  byte s;
  (g == 0 || entry1 == LIVE);
  s = base[g];
  do
  :: s == END -> base[g] = s; break
  :: s < END && top > s ->
     atomic {
       assert(cell[s % N] == s); /* G2 */
       s++;
       frontier[g] = s;
       if
       :: base[g] = s
       :: g == 0 -> skip /* Lazily: with a later one. */
       fi
     }
  od
}

/* The first seq that nobody has published: `tail` is only a hint. Then no R in use can be above it. */
inline find_start() {
  s = tail;
#ifndef HINTONLY
  do
  :: s < top -> s++
  :: else -> break
  od;
#endif
  b = base[0];
  s = (b > s -> b : s)
}

#define LOSS atomic { losses < MAXS -> losses++; s = 0; b = 0; goto restart }

proctype Supervisor() {
  byte s, b;
restart:
  if
  :: entry1 == LIVE -> goto done
  :: else
  fi;
#ifdef STARTFIRST
  find_start();
#endif
  base[1] = 0; /* Pinned: whoever sees the entry sees a base that frees nothing. */
#ifdef EPOCHFIRST
  if :: LOSS :: epoch++ fi;
  if :: LOSS :: entry1 = ENTERED fi;
#else
  if :: LOSS :: entry1 = ENTERED fi;
  if :: LOSS :: epoch++ fi;
#endif
#ifndef STARTFIRST
  if :: LOSS :: find_start() fi;
#endif
  if
  :: LOSS
  :: d_step {
       base[1] = s; frontier[1] = s;
       assert(top <= s + N) /* G2: the first message of the group is not overwritten yet. */
     }
  fi;
  if
  :: LOSS
  :: d_step { assert(top <= base[1] + N); entry1 = LIVE; start1 = base[1] }
  fi;
done:
  skip
}

init {
  atomic {
    base[0] = N; frontier[0] = N;
    run Publisher();
#if NP > 1
    run Publisher();
#endif
    run Reader(0); run Reader(1); run Supervisor()
  }
}
