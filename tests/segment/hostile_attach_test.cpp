// Shows that nothing under the names of a queue is believed that is not whole, ours, of this boot, layout and queue:
// every file replaced, cut, lengthened, given away, linked, exchanged, flipped byte by byte and filled with random
// numbers is refused with the right code, and none of it crashes (run under ASan, too).

#include <functional>
#include <random>

#include "segment/checksum.hpp"
#include "segment/names.hpp"
#include "segment/queue_fixture.hpp"

namespace mooring {
namespace {

using layout::FileHead;
using layout::QueueConstants;

constexpr std::size_t kConstantsOffset = offsetof(layout::CtlHead, constants);

class HostileAttachTest : public QueueFilesTest {
 protected:
  struct Target {
    std::string name;
    std::function<Status()> map;  // what reads this file
  };

  void SetUp() override {
    queue_.emplace(create_whole("orders"));
    const auto status = [](const auto& result) -> Status {
      if (!result) return fail(result.error());
      return {};
    };
    const auto attaching = [this, status] { return status(attach("orders")); };
    targets_ = {
        {"ctl", attaching},
        {"order", attaching},
        {"wake", attaching},
        {"group-0", [=, this] { return status(queue_->map_group(0, Access::read_only, true)); }},
        {"lane-0", [=, this] { return status(queue_->map_lane(0, Access::read_only, true)); }},
        {"seat-0", [=, this] { return status(queue_->map_seat(0, Access::read_only)); }},
        {"park", [=, this] { return status(queue_->map_park(Access::read_only)); }},
    };
    for (const Target& target : targets_) MOORING_EXPECT_OK(target.map());
  }

  // Each file in turn: `spoil` it, look, and put it back.
  void spoil_each(const std::function<void(const std::string& file)>& spoil,
                  const std::function<void(const Target&, const Status&)>& judge) {
    for (const Target& target : targets_) {
      SCOPED_TRACE(target.name);
      const std::string file = file_of("orders", target.name);
      std::filesystem::rename(file, file + ".kept");
      std::filesystem::copy_file(file + ".kept", file);
      spoil(file);
      judge(target, target.map());
      std::filesystem::remove_all(file);
      std::filesystem::rename(file + ".kept", file);
      MOORING_EXPECT_OK(target.map());
    }
  }
  void expect_each_refused(const std::function<void(const std::string&)>& spoil, Code code, const std::string& part) {
    spoil_each(spoil, [&](const Target& target, const Status& answer) {
      MOORING_EXPECT_FAILS(answer, code, part);
      EXPECT_NE(answer.error().text.find(target.name), std::string::npos) << answer.error().text;
    });
  }
  void change_head(const std::string& file, const std::function<void(FileHead&)>& change) {
    FileHead head{};
    const std::string bytes = read_bytes(file);
    std::copy_n(bytes.data(), sizeof head, reinterpret_cast<char*>(&head));
    change(head);
    head.check = checksum(&head, offsetof(FileHead, check));
    write_bytes(file, 0, bytes_of(head));
  }
  void write_constants(QueueConstants constants) {
    constants.check = checksum(&constants, offsetof(QueueConstants, check));
    write_bytes(file_of("orders", "ctl"), kConstantsOffset, bytes_of(constants));
  }

  std::optional<QueueFiles> queue_;
  std::vector<Target> targets_;
};

TEST_F(HostileAttachTest, MissingFileIsNamed) {
  spoil_each([](const std::string& file) { std::filesystem::remove(file); },
             [](const Target& target, const Status& answer) {
               if (target.name == "park") {
                 MOORING_EXPECT_OK(answer);  // It comes with the first parked message.
               } else if (target.name == "order" || target.name == "wake") {
                 MOORING_EXPECT_FAILS(answer, Code::kCorrupt, target.name + " does not exist");
               } else {
                 MOORING_EXPECT_FAILS(answer, Code::kNoSuchQueue, target.name + " does not exist");
               }
             });
}

TEST_F(HostileAttachTest, MissingOrMisnamedQueueIsRefused) {
  MOORING_EXPECT_FAILS(attach("other"), Code::kNoSuchQueue, "no queue other");
  MOORING_EXPECT_FAILS(attach("../q-orders"), Code::kBadArgument, "queue name");
  std::filesystem::rename(path("q-orders"), path("q-other"));
  MOORING_EXPECT_FAILS(attach("other"), Code::kCorrupt, "it is of queue orders");
}

TEST_F(HostileAttachTest, OtherProgramsFilesAreRefused) {
  expect_each_refused(
      [](const std::string& file) {
        write_bytes(file, 0,
                    "\x7f"
                    "ELF");
      },
      Code::kCorrupt, "wrong magic");
}

TEST_F(HostileAttachTest, AnotherLayoutVersionIsRefusedAndBothVersionsAreNamed) {
  const auto spoil = [this](const std::string& file) {
    change_head(file, [](FileHead& head) { head.layout_version = 7; });
  };
  expect_each_refused(spoil, Code::kVersion, "layout version 7");
  expect_each_refused(spoil, Code::kVersion, "version " + std::to_string(layout::kLayoutVersion));
}

TEST_F(HostileAttachTest, AnotherLineSizeIsAnotherVersion) {
  expect_each_refused(
      [this](const std::string& file) { change_head(file, [](FileHead& head) { head.line_bytes = 64; }); },
      Code::kVersion, "lines of 64 bytes");
}

TEST_F(HostileAttachTest, AnotherBootIsRefused) {
  expect_each_refused(
      [this](const std::string& file) { change_head(file, [](FileHead& head) { head.boot_id[15] ^= 1; }); },
      Code::kCorrupt, "another boot");
}

TEST_F(HostileAttachTest, AnotherKindIsRefused) {
  expect_each_refused(
      [this](const std::string& file) {
        change_head(file, [](FileHead& head) { head.kind = layout::FileKind::kInstance; });
      },
      Code::kCorrupt, "another kind of file");
}

TEST_F(HostileAttachTest, AnotherNumberIsRefused) {
  expect_each_refused([this](const std::string& file) { change_head(file, [](FileHead& head) { head.index = 1; }); },
                      Code::kCorrupt, "is number 1, not number 0");
}

TEST_F(HostileAttachTest, AnotherSizeInTheHeadIsRefused) {
  for (const u64 file_bytes : {u64{0}, u64{1}, u64{1} << 40, ~u64{0}}) {
    expect_each_refused(
        [&](const std::string& file) { change_head(file, [&](FileHead& head) { head.file_bytes = file_bytes; }); },
        Code::kCorrupt, "has the wrong size");
  }
}

TEST_F(HostileAttachTest, FileOfAnotherQueueIsRefused) {
  create_whole("other");
  spoil_each(
      [this](const std::string& file) {
        const std::string other = file_of("other", std::filesystem::path(file).filename().string());
        std::filesystem::copy_file(other, file, std::filesystem::copy_options::overwrite_existing);
      },
      [](const Target& target, const Status& answer) {
        MOORING_EXPECT_FAILS(answer, Code::kCorrupt, target.name == "ctl" ? "of queue other" : "another queue");
      });
}

TEST_F(HostileAttachTest, FilesOfOneQueueCannotBeExchanged) {
  for (const Target& target : targets_) {
    for (const Target& other : targets_) {
      if (target.name == other.name) continue;
      const std::string file = file_of("orders", target.name);
      std::filesystem::rename(file, file + ".kept");
      std::filesystem::copy_file(other.name == target.name ? file + ".kept" : file_of("orders", other.name), file);
      MOORING_EXPECT_FAILS(target.map(), Code::kCorrupt, "another kind of file");
      std::filesystem::rename(file + ".kept", file);
    }
  }
}

TEST_F(HostileAttachTest, FileCutShortIsRefusedAtEveryLength) {
  for (const off_t length : {0, 1, 8, 127, 128, 200, 295, 296, 1024, 2048, 4095}) {
    expect_each_refused([length](const std::string& file) { ASSERT_EQ(::truncate(file.c_str(), length), 0); },
                        Code::kCorrupt, "orders");
  }
  // By its last page only.
  spoil_each(
      [](const std::string& file) {
        const auto size = static_cast<off_t>(std::filesystem::file_size(file));
        ASSERT_EQ(::truncate(file.c_str(), size - 4096), 0);
      },
      [](const Target&, const Status& answer) { MOORING_EXPECT_FAILS(answer, Code::kCorrupt, "orders"); });
}

TEST_F(HostileAttachTest, FileThatIsTooLongIsRefused) {
  for (const off_t more : {off_t{1}, off_t{4096}, off_t{1} << 40}) {
    spoil_each(
        [more](const std::string& file) {
          const auto size = static_cast<off_t>(std::filesystem::file_size(file));
          ASSERT_EQ(::truncate(file.c_str(), size + more), 0);
        },
        [more](const Target& target, const Status& answer) {
          if (target.name == "park" && more <= 4096) {
            MOORING_EXPECT_OK(answer);  // A step that was only begun.
          } else {
            MOORING_EXPECT_FAILS(answer, Code::kCorrupt, "are right");
          }
        });
  }
}

TEST_F(HostileAttachTest, ForeignOwnerIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to give a file away";
  expect_each_refused([](const std::string& file) { ASSERT_EQ(::chown(file.c_str(), 12345, 0), 0); }, Code::kPermission,
                      "belongs to user 12345");
  ASSERT_EQ(::chown(path("q-orders").c_str(), 12345, 0), 0);
  MOORING_EXPECT_FAILS(attach("orders"), Code::kPermission, "belongs to user 12345");
}

TEST_F(HostileAttachTest, LinkIsRefused) {
  expect_each_refused(
      [](const std::string& file) {
        ASSERT_EQ(::unlink(file.c_str()), 0);
        ASSERT_EQ(::symlink((file + ".kept").c_str(), file.c_str()), 0);
      },
      Code::kPermission, "is a symbolic link");
  std::filesystem::rename(path("q-orders"), path("real"));
  ASSERT_EQ(::symlink("real", path("q-orders").c_str()), 0);
  MOORING_EXPECT_FAILS(attach("orders"), Code::kPermission, "is a symbolic link");
}

TEST_F(HostileAttachTest, DirectoryOrFifoInPlaceOfAFileIsRefused) {
  expect_each_refused(
      [](const std::string& file) {
        ASSERT_EQ(::unlink(file.c_str()), 0);
        ASSERT_EQ(::mkdir(file.c_str(), 0700), 0);
      },
      Code::kPermission, "not a regular file");
  expect_each_refused(
      [](const std::string& file) {
        ASSERT_EQ(::unlink(file.c_str()), 0);
        ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
      },
      Code::kPermission, "not a regular file");
}

TEST_F(HostileAttachTest, FileInPlaceOfTheQueueIsRefused) {
  MOORING_EXPECT_OK(create_file(shared(), "q-file", 0600, 4096));
  MOORING_EXPECT_FAILS(attach("file"), Code::kPermission, "not a directory");
}

TEST_F(HostileAttachTest, EveryFlippedBitOfAHeadIsSeen) {
  for (const Target& target : targets_) {
    const std::string file = file_of("orders", target.name);
    const std::string before = read_bytes(file).substr(0, sizeof(FileHead));
    for (std::size_t at = 0; at < before.size(); ++at) {
      for (int bit = 0; bit < 8; ++bit) {
        const char flipped = static_cast<char>(before[at] ^ (1 << bit));
        write_bytes(file, at, {&flipped, 1});
        const Status answer = target.map();
        ASSERT_FALSE(answer) << target.name << " byte " << at << " bit " << bit;
        ASSERT_TRUE(answer.error().code == Code::kCorrupt || answer.error().code == Code::kVersion)
            << answer.error().text;
      }
      write_bytes(file, at, {&before[at], 1});
    }
    MOORING_EXPECT_OK(target.map());
  }
}

TEST_F(HostileAttachTest, EveryFlippedBitOfTheConstantsIsSeen) {
  const std::string file = file_of("orders", "ctl");
  const std::string before = read_bytes(file).substr(kConstantsOffset, sizeof(QueueConstants));
  for (std::size_t at = 0; at < before.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      const char flipped = static_cast<char>(before[at] ^ (1 << bit));
      write_bytes(file, kConstantsOffset + at, {&flipped, 1});
      const auto answer = attach("orders");
      ASSERT_FALSE(answer) << "byte " << at << " bit " << bit;
      ASSERT_EQ(answer.error().code, Code::kCorrupt) << answer.error().text;
    }
    write_bytes(file, kConstantsOffset + at, {&before[at], 1});
  }
  MOORING_EXPECT_OK(attach("orders"));
}

// Who can write a file can also make its checksum right: the numbers themselves must be judged.
TEST_F(HostileAttachTest, FlippedConstantsWithARightChecksumAreInRangeOrRefused) {
  const QueueConstants good = queue_->constants();
  std::size_t refused = 0;
  for (std::size_t at = 0; at < offsetof(QueueConstants, check); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      QueueConstants constants = good;
      reinterpret_cast<u8*>(&constants)[at] ^= static_cast<u8>(1 << bit);
      write_constants(constants);
      const auto answer = attach("orders");
      if (answer) {
        MOORING_EXPECT_OK(check_constants(answer->constants(), "accepted"));
        // What sizes the mapped files cannot have changed.
        EXPECT_EQ(answer->constants().cells, good.cells);
        EXPECT_EQ(answer->constants().words, good.words);
        static_cast<void>(answer->map_group(0, Access::read_only, true));
        static_cast<void>(answer->map_lane(0, Access::read_only, true));
        static_cast<void>(answer->map_park(Access::read_only));
      } else {
        EXPECT_EQ(answer.error().code, Code::kCorrupt) << answer.error().text;
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, offsetof(QueueConstants, check) * 8 / 2);
  write_constants(good);
  MOORING_EXPECT_OK(attach("orders"));
}

TEST_F(HostileAttachTest, RandomConstantsAreRefused) {
  constexpr u64 kSeed = 20240611;
  std::mt19937_64 random(kSeed);
  const QueueConstants good = queue_->constants();
  for (int round = 0; round < 2000; ++round) {
    QueueConstants constants{};
    for (std::size_t at = 0; at + 8 <= sizeof constants; at += 8) {
      const u64 word = random();
      std::copy_n(reinterpret_cast<const u8*>(&word), 8, reinterpret_cast<u8*>(&constants) + at);
    }
    // A right beginning lets the garbage reach the later checks.
    if (round % 2 == 0) {
      std::copy_n(reinterpret_cast<const u8*>(&good), offsetof(QueueConstants, cells),
                  reinterpret_cast<u8*>(&constants));
    }
    write_constants(constants);
    MOORING_EXPECT_FAILS(attach("orders"), Code::kCorrupt, "ctl");
  }
}

// Each plausible by itself, together not what the files are.
TEST_F(HostileAttachTest, ConstantsThatDoNotFitTheFilesAreRefused) {
  const std::pair<std::string, std::function<void(QueueConstants&)>> cases[] = {
      {"more cells", [](auto& c) { c.cells = c.words = c.first_seq = kCapacityMax; }},
      {"fewer cells", [](auto& c) { c.cells = c.words = 4; }},
      {"more seats", [](auto& c) { c.seats_max = kConsumersMax + 1; }},
      {"more lanes", [](auto& c) { c.lanes_max = kProducersMax; }},
  };
  for (const auto& [name, change] : cases) {
    SCOPED_TRACE(name);
    QueueConstants constants = queue_->constants();
    change(constants);
    write_constants(constants);
    if (name == "fewer cells") {
      // The same number of pages, so every file still has the right size; nothing is out of bounds then.
      MOORING_EXPECT_OK(attach("orders"));
    } else {
      MOORING_EXPECT_FAILS(attach("orders"), Code::kCorrupt, "are right");
    }
  }
  QueueConstants constants = queue_->constants();
  constants.lane_bytes *= 4;
  constants.parks = kParksMax;
  write_constants(constants);
  const QueueFiles attached = take(attach("orders"));
  MOORING_EXPECT_FAILS(attached.map_lane(0, Access::read_only, true), Code::kCorrupt, "wrong size");
  MOORING_EXPECT_FAILS(attached.map_group(0, Access::read_only, true), Code::kCorrupt, "wrong size");
}

}  // namespace
}  // namespace mooring
