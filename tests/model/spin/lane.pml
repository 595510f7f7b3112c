/* lane.pml - Spin model of one lane (core.md A1, 5.2): a ring of words with one writer and one reader.
 *
 * MODELLED  (sequentially consistent; one word stands for one aligned 64-bit word)
 *   Writer: batches of 1..MAXB frames of 1..3 words, appended one by one as src/ring/lane.hpp does: room for size + 1
 *   (the zero ahead) or else publish what is pending and wait; perhaps a checkpoint, also in the middle of a batch;
 *   payload; header, which is held back for the first of the batch. Publish: the zero ahead, then the first header.
 *   Wrap by a padding frame that is part of the batch.
 *   Checkpoint: two alternating slots {position, seq} and a one-word `current` selector. slot[1 - current].position,
 *   slot[1 - current].seq, then `current`, each a store of its own. Taken where it must be (the write ends more than a
 *   lane beyond it) and, freely, anywhere else, so that any shipped policy (each quarter lap) is a part of this.
 *   Writer's death: between any two stores, MAXP times; the successor believes slot[current] and walks the headers to
 *   the first zero. A writer that is only slow or stopped is an interleaving.
 *   Reader: reads header, payload, then stores `acked`, and raises `base` now or later (always before it waits);
 *   death between any two stores, MAXC times; the successor goes on from `acked`.
 *   Several exclusive groups are several readers that share nothing: the writer uses the lowest base. One is enough.
 *   -DDURABLE (kept for the journal): R = J, a journal thread reads along, the reader may be overtaken (`reclaim`).
 *
 * CHECKED
 *   P1 no reader takes a stale word, a payload word or a torn frame for a message: seq exact, payload whole;
 *   P2 a batch appears at once, in order, nothing twice to a reader that lives;
 *   P3 a successor of the writer knows the next position and the next seq exactly;
 *   P4 everything published is delivered: no end state in which somebody waits (Spin's invalid end states).
 *
 * SEEDED BUGS, each must be found
 *   -DNOPLUS          no room asked for the zero ahead                        -> stands still, or a torn read
 *   -DNOCK            no checkpoint: the successor has the released position  -> next seq unknown
 *   -DSELFIRST        `current` stored before the slot it names               -> wrong next position
 *   -DONESLOT         the slot in use rewritten in place                      -> torn checkpoint
 *   -DHEADFIRST       the first header of a batch is not held back            -> reader steps on a stale word
 *   -DZEROLATE        the zero ahead stored after the first header            -> reader steps on a stale word
 *   -DDURABLE -DNOCHK a lagging reader believes a zero without `reclaim`      -> message never delivered
 *
 * NOT MODELLED
 *   Weak memory (src/ring is run by the interleaving explorer for that), the sleeping protocol, len and seq_lo bounds
 *   (bad input), re-grant of a lane to an unrelated owner, positions that wrap 64 bits, time.
 *
 * RUN  tests/model/spin/run       By hand: spin -a -DL=5 -DMSGS=4 lane.pml && gcc -O2 -DSAFETY -DCOLLAPSE -o pan pan.c
 */
#ifndef L
#define L 5
#endif
#ifndef MSGS
#define MSGS 4
#endif
#ifndef MAXB
#define MAXB 2
#endif
#ifndef MAXP
#define MAXP 1
#endif
#ifndef MAXC
#define MAXC 1
#endif

#define Z 0 /* Zero: the zero ahead, or never written. */
#define H 1 /* Header of a frame. */
#define D 2 /* Header of a padding frame. */
#define P 3 /* Payload word. */

byte word_kind[L], word_len[L], word_seq[L];

byte slot_position[2], slot_seq[2]; /* The writer's checkpoints. */
byte current = 0;                   /* Which of them counts. */

byte base = 0;  /* Released by the reader: the writer may reuse what lies below. */
byte acked = 0; /* Settled by the reader: `base`, or ahead of it. */

#ifdef DURABLE
byte J = 0, reclaim = 0, logged = 0;
byte log_end[MSGS + 1];
#define RELEASED J
#else
#define RELEASED base
#endif

byte kills_p = 0, kills_c = 0;
byte published = 0, published_end = 0; /* Ghosts: next seq and next position. */
byte acked_seq = 0;                    /* Ghost: seq of the frame at `acked`. */
bool written = 0;

/* The writer dies here. A choice beside the next store: a death is seen only by what was stored before it. */
#define WRITER_DIES atomic { kills_p < MAXP -> kills_p++; reset_writer(); goto start }
inline reset_writer() { w = 0; q = 0; e = 0; n = 0; i = 0; pad = 0; pending = 0; held_kind = 0; held_len = 0; c = 0 }

inline put_first_header() {
  d_step {
    word_kind[w % L] = held_kind; word_len[w % L] = held_len; word_seq[w % L] = q;
    published = q + pending; published_end = e
  }
}
inline put_zero_ahead() { d_step { word_kind[e % L] = Z; word_len[e % L] = 0; word_seq[e % L] = 0 } }

/* A header: held back if it is the first of the batch. */
inline put_header(at, kind_, len_) {
  d_step {
#ifdef HEADFIRST
    if :: (at) == w -> held_kind = kind_; held_len = len_ :: else fi;
    if
    :: true ->
#else
    if
    :: (at) == w -> held_kind = kind_; held_len = len_
    :: else ->
#endif
       word_kind[(at) % L] = kind_; word_len[(at) % L] = len_; word_seq[(at) % L] = q + pending
    fi
  }
}

proctype Writer() {
  byte w, q;       /* Start of the pending batch, and its first seq. */
  byte e, pending; /* End of what is appended, and how many frames that is. */
  byte n, i, pad, held_kind, held_len, c;
start:
  /* Attach, also as a successor: from the checkpoint along the headers to the first zero. */
#ifdef NOCK
  atomic { w = acked; q = (acked > 0 -> 255 : 0) };
#else
  atomic { w = slot_position[current]; q = slot_seq[current] };
#endif
  do
  :: atomic {
       word_kind[w % L] == H -> assert(word_seq[w % L] == q || q == 255); /* 255: NOCK does not know it. */
       q = word_seq[w % L] + 1; w = w + word_len[w % L]
     }
  :: atomic { word_kind[w % L] == D -> w = w + word_len[w % L] }
  :: word_kind[w % L] == Z -> break
  :: word_kind[w % L] == P -> assert(false)
  od;
  assert(q == published && w == published_end); /* P3 */
  e = w;
  do
  :: pending == 0 && q >= MSGS -> break
  :: pending > 0 -> goto publish
  :: pending < MAXB && q + pending < MSGS ->
     /* Choose a frame; private to the writer. */
     atomic {
       if :: n = 1 :: n = 2 :: n = 3 fi;
       pad = ((e % L) + n > L -> L - (e % L) : 0);
#ifdef NOPLUS
       if :: pad + n > L -> n = 0; pad = 0; goto next :: else fi;
     };
     if
     :: e + pad + n <= RELEASED + L
     :: e + pad + n > RELEASED + L ->
        if :: pending > 0 -> goto publish :: else fi;
        (e + pad + n <= RELEASED + L)
     fi;
#else
       if :: pad + n + 1 > L -> n = 0; pad = 0; goto next :: else fi /* Too big for this lane: choose again. */
     };
     if
     :: e + pad + n + 1 <= RELEASED + L
     :: e + pad + n + 1 > RELEASED + L ->
        if :: pending > 0 -> goto publish :: else fi;
        (e + pad + n + 1 <= RELEASED + L)
     fi;
#endif
#ifdef DURABLE
     if :: e + pad + n + 1 > reclaim + L -> c = RELEASED; reclaim = c; c = 0 :: else fi;
#endif
#ifndef NOCK
     if
     :: e + pad + n + 1 <= slot_position[current] + L
     :: w != slot_position[current] -> /* Must, where the line above is not true; may, where it is. */
#ifdef SELFIRST
        current = 1 - current;
        if :: WRITER_DIES :: slot_position[current] = w fi;
        if :: WRITER_DIES :: slot_seq[current] = q fi
#else
#ifdef ONESLOT
        c = current;
#else
        c = 1 - current;
#endif
        slot_position[c] = w;
        if :: WRITER_DIES :: slot_seq[c] = q fi;
        if :: WRITER_DIES :: current = c fi;
        c = 0
#endif
     fi;
#endif
     /* Payload. A death inside it is the death before the header: neither is seen. */
     i = 1;
     do
     :: i < n ->
        d_step {
          word_kind[(e + pad + i) % L] = P; word_len[(e + pad + i) % L] = 0; word_seq[(e + pad + i) % L] = q + pending;
          i++
        }
     :: else -> break
     od;
     if
     :: WRITER_DIES
     :: pad == 0
     :: pad != 0 -> put_header(e, D, pad)
     fi;
     if
     :: WRITER_DIES
     :: put_header(e + pad, H, n)
     fi;
     atomic { e = e + pad + n; pending++; n = 0; pad = 0; i = 0 };
     goto next;
publish:
     atomic { n = 0; pad = 0; i = 0 };
#ifdef ZEROLATE
     if :: WRITER_DIES :: put_first_header() fi;
     put_zero_ahead();
#else
     if :: WRITER_DIES :: put_zero_ahead() fi;
     if :: WRITER_DIES :: put_first_header() fi;
#endif
     if
     :: WRITER_DIES
     :: atomic { w = e; q = q + pending; pending = 0; held_kind = 0; held_len = 0 }
     fi;
next: skip
  od;
  written = 1
}

#ifdef DURABLE
proctype Journal() {
  byte j, s;
  do
  :: word_kind[j % L] == H ->
     d_step { s = word_seq[j % L]; assert(s == logged); j = j + word_len[j % L]; logged++; log_end[logged] = j };
     J = j
  :: word_kind[j % L] == D -> j = j + word_len[j % L]; J = j
  :: word_kind[j % L] == P -> assert(false)
  :: written && logged == MSGS -> break
  od
}
#endif

#define READER_DIES atomic { kills_c < MAXC -> kills_c++; goto start }

proctype Reader() {
  byte p, s, hk, hl, hs, n;
start:
  atomic { p = acked; s = acked_seq; hk = 0; hl = 0; hs = 0; n = 0 };
  do
  :: s >= MSGS -> base = p; break
  :: else ->
     d_step { hk = word_kind[p % L]; hl = word_len[p % L]; hs = word_seq[p % L] };
#ifdef DURABLE
#ifdef NOCHK
     if :: hk == Z -> base = p; (word_kind[p % L] != Z); goto again :: else fi;
#endif
     if
     :: reclaim > p -> /* Cold: the log has it, since reclaim never passes J. */
        if :: logged > s -> p = log_end[s + 1]; goto got
           :: else -> /* Only padding goes without a logged message: it ends the lane. */
              assert(p % L != 0); p = p + L - (p % L); goto again
        fi
     :: else
     fi;
#endif
     if
     :: hk == Z ->
        base = p; /* Before it waits it hides nothing from the writer. */
#ifdef DURABLE
        (word_kind[p % L] != Z || reclaim > p);
#else
        (word_kind[p % L] != Z);
#endif
        goto again
     :: hk == P -> assert(false) /* P1 */
     :: hk == D -> p = p + hl; goto again
     :: else ->
        n = 1;
        assert(hs == s); /* P1, P2 */
        do
        :: n < hl ->
           if :: word_kind[(p + n) % L] == P && word_seq[(p + n) % L] == s -> n++
              :: else ->
#ifdef DURABLE
                 assert(reclaim > p); break /* Overtaken while it copied: seen below. */
#else
                 assert(false) /* P1: torn. */
#endif
           fi
        :: else -> break
        od;
#ifdef DURABLE
        if :: reclaim > p -> assert(logged > s); p = log_end[s + 1]; goto got :: else fi;
#endif
        p = p + hl
     fi;
got:
     s++;
     if :: READER_DIES
        :: d_step { acked = p; acked_seq = s }
     fi;
     if :: READER_DIES
        :: base = p
        :: true /* Lazily: later. */
     fi;
again: atomic { hk = 0; hl = 0; hs = 0; n = 0 }
  od
}

init {
  atomic {
    run Writer(); run Reader();
#ifdef DURABLE
    run Journal();
#endif
  }
}
