// What is stepped: operations, each in the start states that mean something to it.
//
//   empty, one, full, freed (full, then drained: the writer's cached mark is old), wrap (the next frame goes to the
//   start of the lane, or the next word begins a lap), contended (somebody else is in the middle of its own work),
//   predecessor dead (the one before on this lane or in this seat died in the middle)
//
// Parties 0 are the victims; 1 and 2 are the others.
#pragma once

#include <utility>

#include "crash/step_run.hpp"

namespace mooring::test {

template <class A>
struct Scenarios {
  using P = Parties<A>;
  using Act = std::function<void(P&)>;
  using Named = std::pair<std::string, Act>;
  using List = std::vector<Scenario<A>>;

  static bool drained(P& parties) { return parties.run(0, true); }

  static void to_the_wrap_of_the_lane(P& parties) {
    for (int i = 0; i < 64 && !parties.next_wraps(0); ++i) {
      parties.publish(0, 1);
      drained(parties);
    }
    parties.expect(parties.next_wraps(0), "no wrap comes");
  }
  // The next message takes the last cell and the last word of their laps.
  static void to_the_last_word(P& parties) {
    const u64 mask = parties.group().mask;
    for (int i = 0; i < 64 && (parties.tail() & mask) != mask; ++i) {
      parties.publish(i % 3 == 0 ? 1 : 0, 1);
      drained(parties);
    }
    parties.expect((parties.tail() & mask) == mask, "the last word is not reached");
  }

  // The owner of lane 0 is gone; two messages wait there, one is being read, one was never published.
  static void messages_of_the_dead(P& p) {
    p.publish(0, 3);
    p.publish(1, 1);
    p.take(0);
    p.append_only(0, 1);
    p.bury(Role::kProducer, 0);
  }

  static std::vector<Named> producer_states(Delivery delivery) {
    const bool spsc = delivery == Delivery::kSpsc;
    std::vector<Named> states = {
        {"empty", [](P&) {}},
        {"one", [](P& p) { p.publish(0, 1); }},
        {"full", [](P& p) { p.fill(); }},
        {"freed",
         [](P& p) {
           p.fill(0);
           drained(p);
         }},
        {"wrap", to_the_wrap_of_the_lane},
        // Its checkpoint goes into the other of the two slots.
        {"behind the wrap",
         [](P& p) {
           to_the_wrap_of_the_lane(p);
           p.publish(0, 1);
           drained(p);
         }},
        {"predecessor dead",
         [](P& p) {
           p.publish(0, 2);
           p.append_only(0, 2);
           p.bury(Role::kProducer, 0);
           drained(p);
           p.replace(Role::kProducer, 0);
         }},
    };
    if (spsc) {
      states.push_back({"contended", [](P& p) {
                          p.publish(0, 3);
                          p.take(0);
                          p.take(0);
                          p.ack(0, 0);
                        }});
      states.push_back({"predecessor dead, unread", [](P& p) {
                          p.publish(0, 2);
                          p.append_only(0, 1);
                          p.bury(Role::kProducer, 0);
                          p.replace(Role::kProducer, 0);
                        }});
    } else {
      states.push_back({"lane full", [](P& p) { p.fill(0); }});
      states.push_back({"predecessor dead, unread", [](P& p) {
                          messages_of_the_dead(p);
                          p.inherit(0);
                        }});
      states.push_back({"last cell", to_the_last_word});
      states.push_back({"contended", [](P& p) {
                          p.publish(1, 2);
                          p.publish(2, 1);
                          p.take(0);
                          p.append_only(1, 1);
                          p.pause(Role::kProducer, 1);
                        }});
    }
    return states;
  }

  static List producers(Delivery delivery) {
    struct Operation {
      std::string name;
      Act operate;
      u32 staged;  // payloads made before
    };
    const std::vector<Operation> operations = {
        {"publish", [](P& p) { p.publish(0, 1); }, 1},
        {"publish batch", [](P& p) { p.publish(0, 3); }, 3},
        {"reserve and commit", [](P& p) { p.reserve_and_commit(0); }, 0},
        {"reserve and abort", [](P& p) { p.reserve_and_abort(0); }, 0},
        {"batch and abort", [](P& p) { p.forget(0, p.append_only(0, 2)); }, 0},
    };
    List list;
    for (const Operation& operation : operations) {
      for (const Named& state : producer_states(delivery)) {
        list.push_back({.operation = operation.name,
                        .state = state.first,
                        .delivery = delivery,
                        .role = Role::kProducer,
                        .prepare =
                            [prepare = state.second, staged = operation.staged](P& p) {
                              prepare(p);
                              if (staged != 0) p.stage(0, staged);
                            },
                        .operate = operation.operate});
      }
    }
    if (delivery != Delivery::kSpsc) {
      list.push_back({.operation = "settle tail",
                      .state = "behind",
                      .delivery = delivery,
                      .role = Role::kProducer,
                      .prepare = [](P& p) { p.publish(0, 3); },
                      .operate = [](P& p) { p.settle_tail(0); }});
      list.push_back({.operation = "inherit",
                      .state = "unread",
                      .delivery = delivery,
                      .role = Role::kProducer,
                      .prepare = messages_of_the_dead,
                      .operate = [](P& p) { p.inherit(0); }});
    }
    return list;
  }

  // Each leaves at least three messages to take, but for "one" and "empty".
  static std::vector<Named> consumer_states(Delivery delivery) {
    std::vector<Named> states = {
        {"one", [](P& p) { p.publish(0, 1); }},
        {"full", [](P& p) { p.fill(); }},
        {"wrap",
         [](P& p) {
           to_the_wrap_of_the_lane(p);
           p.publish(0, 3);
         }},
        {"producer in the middle",
         [](P& p) {
           p.publish(0, 3);
           p.append_only(0, 1);
           p.pause(Role::kProducer, 0);
         }},
    };
    if (delivery != Delivery::kSpsc) {
      states.push_back({"last word", [](P& p) {
                          to_the_last_word(p);
                          p.publish(1, 2);
                          p.publish(0, 2);
                        }});
    }
    if (delivery == Delivery::kCompeting) {
      states.push_back({"contended", [](P& p) {
                          p.publish(0, 3);
                          p.publish(1, 3);
                          p.take(1);
                          p.take(1);
                          p.ack(1, 1);
                        }});
      states.push_back({"predecessor dead", [](P& p) {
                          p.publish(0, 3);
                          p.publish(1, 3);
                          p.take(2);
                          p.take(2);
                          p.bury(Role::kConsumer, 2);
                        }});
    } else {
      states.push_back({"predecessor dead", [](P& p) {
                          p.publish(0, 3);
                          drained(p);
                          p.publish(0, 3);
                          for (int i = 0; i < 3; ++i) p.take(0);
                          p.ack(0, 1);
                          p.give_back(0, 1);
                          p.bury(Role::kConsumer, 0);
                          p.replace(Role::kConsumer, 0);
                        }});
    }
    return states;
  }

  // Takes until the victim holds `count`; publishes what is missing.
  static void hold(P& p, u64 count) {
    for (int i = 0; i < 16 && p.held_count(0) < count; ++i) {
      if (!p.take(0)) p.publish(p.spsc() ? 0 : 1, 1);
    }
    p.expect(p.held_count(0) == count, "there is nothing to take");
  }

  struct ConsumerOperation {
    std::string name;
    Act prepare;  // after the state
    Act operate;
  };

  static List over_states(Delivery delivery, const std::vector<ConsumerOperation>& operations) {
    List list;
    for (const ConsumerOperation& operation : operations) {
      for (const Named& state : consumer_states(delivery)) {
        list.push_back({.operation = operation.name,
                        .state = state.first,
                        .delivery = delivery,
                        .role = Role::kConsumer,
                        .prepare =
                            [prepare = state.second, then = operation.prepare](P& p) {
                              prepare(p);
                              then(p);
                            },
                        .operate = operation.operate});
      }
    }
    return list;
  }

  static Act holding(u64 count) {
    return [count](P& p) { hold(p, count); };
  }

  static List exclusive_consumers(Delivery delivery) {
    List list = over_states(delivery, {
                                          {"take", [](P&) {}, [](P& p) { p.take(0); }},
                                          {"take what was given back",
                                           [](P& p) {
                                             hold(p, 2);
                                             p.give_back(0, 0);
                                           },
                                           [](P& p) { p.take(0); }},
                                          {"ack in order", holding(2), [](P& p) { p.ack(0, 0); }},
                                          {"ack out of order", holding(3), [](P& p) { p.ack(0, 1); }},
                                          {"ack that joins a run",
                                           [](P& p) {
                                             hold(p, 3);
                                             p.ack(0, 1);
                                           },
                                           [](P& p) { p.ack(0, 0); }},
                                          {"ack up to", holding(3), [](P& p) { p.ack_up_to(1); }},
                                          {"ack up to, over what was given back",
                                           [](P& p) {
                                             hold(p, 3);
                                             p.give_back(0, 0);
                                           },
                                           [](P& p) { p.ack_up_to(0); }},
                                          {"give back", holding(2), [](P& p) { p.give_back(0, 0); }},
                                          {"give back again",
                                           [](P& p) {
                                             hold(p, 2);
                                             p.give_back(0, 0);
                                             p.take(0);
                                           },
                                           [](P& p) { p.give_back(0, 1); }},
                                          {"raise base",
                                           [](P& p) {
                                             hold(p, 2);
                                             p.ack(0, 0);
                                           },
                                           [](P& p) { p.show_base(0); }},
                                          {"receive, ack, raise base", [](P&) {},
                                           [](P& p) {
                                             if (p.take(0)) p.ack(0, 0);
                                             p.show_base(0);
                                           }},
                                      });
    list.push_back({.operation = "take",
                    .state = "empty",
                    .delivery = delivery,
                    .role = Role::kConsumer,
                    .prepare = [](P&) {},
                    .operate = [](P& p) { p.take(0); }});
    return list;
  }

  // --- Competing groups ------------------------------------------------------------------------------------------

  static void park_held(P& p, u32 c, u64 at) { p.park(p.held(c, at).seq, p.held(c, at).lease.word); }

  // A message at base, parked in the name of consumer `c`, which then dies: READY in the park table.
  static void one_ready_in_park(P& p, u32 c) {
    p.publish(1, 1);
    p.take(c);
    park_held(p, c, 0);
    p.bury(Role::kConsumer, c);
    p.sweep_the_dead();
  }

  static List competing_consumers() {
    const Delivery delivery = Delivery::kCompeting;
    List list = over_states(delivery, {
                                          {"lease", [](P&) {}, [](P& p) { p.take(0); }},
                                          {"lease what was given back",
                                           [](P& p) {
                                             if (!p.take(1)) p.publish(1, 1), p.take(1);
                                             p.give_back(1, 0);
                                           },
                                           [](P& p) { p.take(0); }},
                                          {"ack in order", holding(2), [](P& p) { p.ack(0, 0); }},
                                          {"ack out of order", holding(2), [](P& p) { p.ack(0, 1); }},
                                          {"ack of a parked one",
                                           [](P& p) {
                                             hold(p, 2);
                                             park_held(p, 0, 0);
                                           },
                                           [](P& p) { p.ack(0, 0); }},
                                          {"nack", holding(2), [](P& p) { p.nack(0, 0); }},
                                          {"release", holding(2), [](P& p) { p.give_back(0, 0); }},
                                          {"help base",
                                           [](P& p) {
                                             hold(p, 3);
                                             p.ack(0, 1);
                                             p.ack(0, 0);
                                           },
                                           [](P& p) { p.show_base(0); }},
                                          {"receive, ack, help base", [](P&) {},
                                           [](P& p) {
                                             if (p.take(0)) p.ack(0, 0);
                                             p.show_base(0);
                                           }},
                                      });
    const auto add = [&](const std::string& operation, const std::string& state, Act prepare, Act operate) {
      list.push_back({.operation = operation,
                      .state = state,
                      .delivery = delivery,
                      .role = Role::kConsumer,
                      .prepare = std::move(prepare),
                      .operate = std::move(operate)});
    };
    add(
        "lease", "empty", [](P&) {}, [](P& p) { p.take(0); });
    add(
        "lease what was given back", "taken meanwhile",
        [](P& p) {
          p.publish(0, 2);
          p.take(1);
          p.give_back(1, 0);
          // `back` still names it.
          p.take(2);
        },
        [](P& p) { p.take(0); });
    add(
        "lease what was given back", "two of them",
        [](P& p) {
          p.publish(0, 3);
          for (int i = 0; i < 3; ++i) p.take(1);
          p.give_back(1, 2);
          p.give_back(1, 0);
        },
        [](P& p) { p.take(0); });
    add(
        "lease a parked one", "alone", [](P& p) { one_ready_in_park(p, 1); }, [](P& p) { p.take(0); });
    add(
        "lease a parked one", "between new ones",
        [](P& p) {
          one_ready_in_park(p, 1);
          for (int i = 0; i < 5; ++i) p.publish(1, 1);
          // Each fourth lease is one from the park table.
          for (int i = 0; i < 3; ++i) {
            p.take(0);
            p.ack(0, 0);
          }
        },
        [](P& p) { p.take(0); });
    add(
        "lease a parked one", "two of them",
        [](P& p) {
          p.publish(1, 2);
          p.take(1);
          p.take(1);
          park_held(p, 1, 0);
          park_held(p, 1, 1);
          p.bury(Role::kConsumer, 1);
          p.sweep_the_dead();
        },
        [](P& p) { p.take(0); });

    // Settling what left the window in the victim's name: where the supervisor is through, where others went on for
    // laps (the word is of a later lap), and where the supervisor died between two steps of parking it.
    const std::vector<Named> settlements = {{"ack of a parked one", [](P& p) { p.ack(0, 0); }},
                                            {"nack of a parked one", [](P& p) { p.nack(0, 0); }},
                                            {"release of a parked one", [](P& p) { p.give_back(0, 0); }}};
    for (const Named& settlement : settlements) {
      add(
          settlement.first, "laps ago",
          [](P& p) {
            hold(p, 1);
            park_held(p, 0, 0);
            p.pause(Role::kConsumer, 0);
            p.run(20, true);
          },
          settlement.second);
      add(
          settlement.first, "leased from the park table",
          [](P& p) {
            one_ready_in_park(p, 1);
            p.take(0);
          },
          settlement.second);
      for (u64 changes = 1; changes <= kParkChanges; ++changes) {
        add(
            settlement.first, "supervisor dead at its change " + std::to_string(changes),
            [changes](P& p) {
              hold(p, 2);
              supervisor_dies_midway<A>(
                  p, [](P& dying) { park_held(dying, 0, 0); }, changes);
            },
            settlement.second);
      }
    }
    return list;
  }

  // --- The supervisor --------------------------------------------------------------------------------------------

  // How often parking one message changes the block, at most (the record is copied eight bytes at a time, or more).
  static constexpr u64 kParkChanges = 10;

  static List repairs() {
    List list;
    const auto add = [&](const std::string& operation, const std::string& state, Act prepare, Act operate) {
      list.push_back({.operation = operation,
                      .state = state,
                      .delivery = Delivery::kCompeting,
                      .role = Role::kSupervisor,
                      .prepare = std::move(prepare),
                      .operate = std::move(operate)});
    };
    const auto sweep = [](P& p) { p.sweep_the_dead(); };
    const auto park_first = [](P& p) { park_held(p, 1, 0); };
    const auto tick = [](P& p) { p.tick(); };
    const auto reconcile = [](P& p) {
      p.repair().reconcile();
      p.sweep_the_dead();
    };

    for (const Named& state : consumer_states(Delivery::kCompeting)) {
      add(
          "give back all of", state.first,
          [prepare = state.second](P& p) {
            prepare(p);
            p.take(2);
            p.take(0);
            p.take(2);
            p.bury(Role::kConsumer, 2);
          },
          sweep);
      add(
          "park straggler", state.first,
          [prepare = state.second](P& p) {
            prepare(p);
            if (p.held_count(1) == 0 && !p.take(1)) p.publish(1, 1), p.take(1);
            p.take(0);
          },
          park_first);
    }
    add(
        "give back all of", "with parked ones",
        [](P& p) {
          p.publish(0, 3);
          p.take(2);
          p.take(1);
          p.take(2);
          park_held(p, 2, 0);
          p.bury(Role::kConsumer, 2);
        },
        sweep);
    add(
        "park straggler", "settled meanwhile",
        [](P& p) {
          p.publish(0, 2);
          p.take(1);
          p.ack(1, 0);
        },
        [](P& p) {
          // The word as the supervisor read it before.
          const u64 seq = p.memory().first_seq();
          p.park(seq, layout::make_word(p.group().lap(seq), layout::Kind::kLeased, 2, layout::make_aux(1)));
        });
    add(
        "park straggler", "behind it acked ones",
        [](P& p) {
          p.publish(0, 3);
          p.take(1);
          p.take(0);
          p.take(0);
          p.ack(0, 0);
          p.ack(0, 0);
        },
        park_first);
    add(
        "tick", "nacked",
        [](P& p) {
          p.publish(0, 3);
          p.take(0);
          p.take(0);
          p.nack(0, 1);
        },
        tick);
    add(
        "tick", "nacked in park",
        [](P& p) {
          p.publish(0, 2);
          p.take(1);
          park_held(p, 1, 0);
          p.nack(1, 0);
        },
        tick);
    add(
        "tick", "park entry to reap",
        [](P& p) {
          p.publish(0, 3);
          p.take(1);
          p.take(1);
          park_held(p, 1, 0);
          park_held(p, 1, 1);
          p.ack(1, 0);
        },
        tick);
    add(
        "tick", "base to step",
        [](P& p) {
          p.publish(0, 3);
          for (int i = 0; i < 3; ++i) p.take(0);
          for (int i = 0; i < 3; ++i) p.ack(0, 0);
        },
        tick);
    for (u64 changes = 1; changes <= 3; ++changes) {
      add(
          "tick", "given back, announced to nobody, " + std::to_string(changes),
          [changes](P& p) {
            p.publish(0, 2);
            p.take(0);
            p.take(1);
            die_midway<A>(
                p, [](P& dying) { dying.give_back(0, 0); }, changes);
            p.bury(Role::kConsumer, 0);
            p.sweep_the_dead();
          },
          tick);
    }

    // A supervisor died at each step of parking; its owner then does nothing, settles, gives back or dies; and then the
    // successor is killed at each instruction of mending that.
    const std::vector<Named> owners = {
        {"the owner waits", [](P&) {}},
        {"the owner acks", [](P& p) { p.ack(1, 0); }},
        {"the owner releases", [](P& p) { p.give_back(1, 0); }},
        {"the owner nacks", [](P& p) { p.nack(1, 0); }},
        {"the owner dies", [](P& p) { p.bury(Role::kConsumer, 1); }},
    };
    for (u64 changes = 1; changes <= kParkChanges; ++changes) {
      for (const Named& owner : owners) {
        add(
            "reconcile", "dead at change " + std::to_string(changes) + ", " + owner.first,
            [changes, park_first, act = owner.second](P& p) {
              p.publish(0, 3);
              p.take(1);
              p.take(0);
              supervisor_dies_midway<A>(p, park_first, changes);
              act(p);
            },
            reconcile);
      }
    }
    for (u64 changes = 1; changes <= 5; ++changes) {
      add(
          "reconcile", "dead in give back, change " + std::to_string(changes),
          [changes, sweep](P& p) {
            p.publish(0, 3);
            p.take(2);
            p.take(1);
            p.take(2);
            p.bury(Role::kConsumer, 2);
            supervisor_dies_midway<A>(p, sweep, changes);
          },
          reconcile);
    }
    return list;
  }
};

}  // namespace mooring::test
