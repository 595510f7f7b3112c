// The house rules that a program can check, as a test of the source itself. Shows: rooms include only the rooms below
// them, the top level holds what it may, lines fit, names say something, memory orders are written out, nothing is left
// for later. Each rule is a function from text to findings, and each is first shown a bad example, so that a rule that
// has gone blind fails here too. If a rule ever fires on good code, change the rule.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace fs = std::filesystem;
using Findings = std::vector<std::string>;
using testing::HasSubstr;
using testing::IsEmpty;

const fs::path kRoot = MOORING_SOURCE_DIR;

// The arrows: a room may include the rooms named here, and whatever those may include. The same words stand in
// src/<room>/CMakeLists.txt (mooring_room DEPENDS); a test below compares the two. `mooring` is the public header.
const std::map<std::string, std::vector<std::string>> kArrows = {
    {"base", {}},
    {"platform", {"base"}},
    {"journal", {"base", "platform"}},
    {"layout", {"base"}},
    {"delivery", {"layout"}},
    {"message", {"layout"}},
    {"segment", {"layout", "platform"}},
    {"ring", {"layout", "platform"}},
    {"group", {"ring"}},
    {"inspect", {"group", "segment", "delivery"}},
    {"metrics", {"inspect"}},
    {"queue", {"group", "message", "segment", "journal"}},
    {"supervisor", {"queue", "journal", "delivery"}},
    {"worker", {"queue"}},
    {"capi", {"worker", "mooring"}},
    {"mooring", {}},
};

const std::set<std::string> kTopLevel = {
    "CMakeLists.txt", "src",         "include",    "tools",        "bench",           "tests",
    "docs",           "README.md",   "LICENSE",    "CHANGELOG.md", "CONTRIBUTING.md", "CMakePresets.json",
    ".clang-format",  ".clang-tidy", ".gitignore", ".ci",
};
// What tools and people leave beside the sources; never part of the project.
const std::set<std::string> kNotOurs = {"build", ".git", ".cache", ".vscode", ".idea", "CMakeUserPresets.json"};

const std::set<std::string> kEmptyNames = {"util", "utils", "common", "misc", "helper", "helpers"};

constexpr std::size_t kColumnsMax = 120;

// ---- the rules --------------------------------------------------------------------------------------------------

std::set<std::string> reachable_rooms(const std::string& room) {
  std::set<std::string> seen = {room};
  std::vector<std::string> open = {room};
  while (!open.empty()) {
    const std::string next = open.back();
    open.pop_back();
    for (const std::string& used : kArrows.at(next)) {
      if (seen.insert(used).second) open.push_back(used);
    }
  }
  return seen;
}

std::string place(const std::string& file, std::size_t line) { return file + ":" + std::to_string(line) + ": "; }

template <class Visit>
void each_line(const std::string& text, const Visit& visit) {
  std::istringstream lines(text);
  std::string line;
  for (std::size_t number = 1; std::getline(lines, line); ++number) visit(number, line);
}

// Our own includes are quoted and name their room; system and library includes are in angle brackets.
Findings include_findings(const std::string& room, const std::string& file, const std::string& text) {
  static const std::regex kInclude(R"re(^\s*#\s*include\s*(["<])([^">/]*)(/?)[^">]*[">])re");
  const std::set<std::string> allowed = reachable_rooms(room);
  Findings findings;
  each_line(text, [&](std::size_t number, const std::string& line) {
    std::smatch match;
    if (!std::regex_search(line, match, kInclude)) return;
    const bool quoted = match[1] == "\"";
    const std::string used = match[2];
    if (quoted && match[3] != "/") {
      findings.push_back(place(file, number) + "include by room: \"" + room + "/" + used + "\"");
    } else if ((quoted || kArrows.contains(used)) && !allowed.contains(used)) {
      findings.push_back(place(file, number) + "room " + room + " must not include room " + used);
    }
  });
  return findings;
}

Findings top_level_findings(const std::vector<std::string>& names) {
  Findings findings;
  for (const std::string& name : names) {
    if (!kTopLevel.contains(name) && !kNotOurs.contains(name)) {
      findings.push_back(name + ": not part of the house (CONTRIBUTING.md); find it a room");
    }
  }
  return findings;
}

// Columns, not bytes: a UTF-8 continuation byte starts no column.
std::size_t column_count(std::string_view line) {
  return static_cast<std::size_t>(
      std::ranges::count_if(line, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

Findings line_findings(const std::string& file, const std::string& text) {
  Findings findings;
  each_line(text, [&](std::size_t number, const std::string& line) {
    if (column_count(line) > kColumnsMax) {
      findings.push_back(place(file, number) + std::to_string(column_count(line)) + " columns, at most " +
                         std::to_string(kColumnsMax));
    }
  });
  return findings;
}

Findings name_findings(const fs::path& path) {
  Findings findings;
  for (const fs::path& part : path) {
    std::string word;
    for (const char c : part.string() + ".") {
      if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
        word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        continue;
      }
      if (kEmptyNames.contains(word))
        findings.push_back(path.string() + ": '" + word + "' says nothing; name the idea");
      word.clear();
    }
  }
  return findings;
}

Findings order_findings(const std::string& file, const std::string& text) {
  static const std::regex kBareLoad(R"((\.|->)load\(\s*\))");
  Findings findings;
  each_line(text, [&](std::size_t number, const std::string& line) {
    if (std::regex_search(line, kBareLoad)) findings.push_back(place(file, number) + "write the memory order out");
  });
  return findings;
}

// The words are written in two halves, so that this file does not find itself.
Findings later_findings(const std::string& file, const std::string& text) {
  static const std::regex kLater(
      "\\b(TO"
      "DO|FIX"
      "ME|X"
      "XX)\\b");
  Findings findings;
  each_line(text, [&](std::size_t number, const std::string& line) {
    if (std::regex_search(line, kLater)) findings.push_back(place(file, number) + "do it now or open an issue");
  });
  return findings;
}

Findings head_findings(const std::string& file, const std::string& text) {
  if (text.starts_with("//") || text.starts_with("/*")) return {};
  return {file + ": a header opens with what it is (a comment)"};
}

// ---- the tree ---------------------------------------------------------------------------------------------------

struct SourceFile {
  std::string path;  // from the root
  std::string text;
};

std::string read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::vector<SourceFile> files_below(const std::vector<std::string>& folders) {
  std::vector<SourceFile> files;
  for (const std::string& folder : folders) {
    if (!fs::exists(kRoot / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
      if (!entry.is_regular_file()) continue;
      std::string text = read_text(entry.path());
      // Test data may be bytes; the rules are about text.
      if (text.find('\0') != std::string::npos) text.clear();
      files.push_back({fs::relative(entry.path(), kRoot).string(), std::move(text)});
    }
  }
  std::ranges::sort(files, {}, &SourceFile::path);
  return files;
}

bool is_code(const std::string& path) {
  const std::string extension = fs::path(path).extension().string();
  return extension == ".hpp" || extension == ".cpp" || extension == ".h" || extension == ".c";
}
bool is_header(const std::string& path) { return path.ends_with(".hpp") || path.ends_with(".h"); }

template <class Rule>
Findings findings_in(const std::vector<SourceFile>& files, const Rule& rule) {
  Findings all;
  for (const SourceFile& file : files) {
    const Findings some = rule(file);
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

std::string listed(const Findings& findings) {
  std::string text;
  for (const std::string& finding : findings) text += "\n  " + finding;
  return text;
}

// ---- each rule sees a bad example -------------------------------------------------------------------------------

TEST(TidyRules, BackwardIncludeIsFound) {
  const Findings bad = include_findings("layout", "src/layout/cell.hpp", "// x\n#include \"queue/queue.hpp\"\n");
  ASSERT_EQ(bad.size(), 1u);
  EXPECT_THAT(bad[0], HasSubstr("cell.hpp:2: room layout must not include room queue"));
  EXPECT_EQ(include_findings("segment", "f", "#include \"ring/lane.hpp\"\n").size(), 1u) << "siblings";
  EXPECT_EQ(include_findings("ring", "f", "  #  include <queue/queue.hpp>\n").size(), 1u) << "angle brackets";
  EXPECT_EQ(include_findings("queue", "f", "#include <mooring/mooring.h>\n").size(), 1u) << "the contract from below";
  EXPECT_EQ(include_findings("queue", "f", "#include \"nowhere/x.hpp\"\n").size(), 1u) << "a room that is not";
  EXPECT_EQ(include_findings("queue", "f", "#include \"queue.hpp\"\n").size(), 1u) << "no room";
}

TEST(TidyRules, ForwardIncludeIsAllowed) {
  const std::string good =
      "#include \"queue/queue.hpp\"\n#include \"base/bytes.hpp\"\n#include <vector>\n"
      "#include <sys/mman.h>\n#include <boost/interprocess/mapped_region.hpp>\n#include <mooring/mooring.h>\n";
  EXPECT_THAT(include_findings("capi", "f", good), IsEmpty());
}

TEST(TidyRules, StrangeTopLevelEntryIsFound) {
  EXPECT_EQ(top_level_findings({"src", "scripts", "notes.txt"}).size(), 2u);
  EXPECT_THAT(top_level_findings({"src", "README.md", ".git", "build"}), IsEmpty());
}

TEST(TidyRules, LongLineIsFound) {
  const std::string fits(kColumnsMax, 'x');
  EXPECT_EQ(line_findings("f", "short\n" + fits + "x\n").size(), 1u);
  EXPECT_THAT(line_findings("f", fits + "\n"), IsEmpty());
  std::string umlauts;
  for (std::size_t i = 0; i < kColumnsMax; ++i) umlauts += "\xC3\xA4";
  EXPECT_THAT(line_findings("f", umlauts), IsEmpty()) << "two bytes, one column";
}

TEST(TidyRules, EmptyNameIsFound) {
  EXPECT_EQ(name_findings("src/base/string_util.hpp").size(), 1u);
  EXPECT_EQ(name_findings("src/common/ring.hpp").size(), 1u);
  EXPECT_EQ(name_findings("tests/Misc.cpp").size(), 1u);
  EXPECT_THAT(name_findings("src/base/commonality.hpp"), IsEmpty()) << "whole words only";
}

TEST(TidyRules, BareLoadIsFound) {
  EXPECT_EQ(order_findings("f", "return head_.load();\n").size(), 1u);
  EXPECT_EQ(order_findings("f", "return head->load( );\n").size(), 1u);
  EXPECT_THAT(order_findings("f", "return head_.load(std::memory_order_acquire);\n"), IsEmpty());
}

TEST(TidyRules, WorkLeftForLaterIsFound) {
  EXPECT_EQ(later_findings("f", std::string("int x;  // TO") + "DO: name it\n").size(), 1u);
  EXPECT_THAT(later_findings("f", "// Nothing is left.\n"), IsEmpty());
}

TEST(TidyRules, HeaderWithoutHeadCommentIsFound) {
  EXPECT_EQ(head_findings("f", "#pragma once\n").size(), 1u);
  EXPECT_THAT(head_findings("f", "// A lane.\n#pragma once\n"), IsEmpty());
}

// ---- and then the tree ------------------------------------------------------------------------------------------

TEST(Tidy, RoomsIncludeOnlyRoomsBelowThem) {
  const std::vector<SourceFile> files = files_below({"src"});
  ASSERT_FALSE(files.empty());
  const Findings findings = findings_in(files, [](const SourceFile& file) -> Findings {
    if (!is_code(file.path)) return {};
    const std::string room = std::next(fs::path(file.path).begin())->string();
    if (!kArrows.contains(room)) return {file.path + ": room " + room + " has no arrows; add it to kArrows"};
    return include_findings(room, file.path, file.text);
  });
  EXPECT_THAT(findings, IsEmpty()) << listed(findings);
}

TEST(Tidy, BuildHasTheSameArrowsAsThisTest) {
  static const std::regex kRoom(R"(mooring_room\(\s*(\w+)([^)]*)\))");
  static const std::regex kDepends(R"(\bDEPENDS((\s+[a-z]+\b)*))");
  std::size_t room_count = 0;
  for (const SourceFile& file : files_below({"src"})) {
    std::smatch room;
    if (!file.path.ends_with("CMakeLists.txt") || !std::regex_search(file.text, room, kRoom)) continue;
    ++room_count;
    const std::string words = room[2];
    std::smatch depends;
    std::set<std::string> built;
    if (std::regex_search(words, depends, kDepends)) {
      std::istringstream names(depends[1]);
      for (std::string name; names >> name;) built.insert(name);
    }
    ASSERT_TRUE(kArrows.contains(room[1])) << file.path;
    const std::vector<std::string>& drawn = kArrows.at(room[1]);
    EXPECT_EQ(built, std::set<std::string>(drawn.begin(), drawn.end())) << file.path;
  }
  EXPECT_EQ(room_count, kArrows.size() - 2) << "every room but capi, which is the library itself, and the header";
}

TEST(Tidy, TopLevelHoldsOnlyTheHouse) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kRoot)) names.push_back(entry.path().filename().string());
  const Findings findings = top_level_findings(names);
  EXPECT_THAT(findings, IsEmpty()) << listed(findings);
  for (const std::string& name : kTopLevel) EXPECT_TRUE(fs::exists(kRoot / name)) << name << " is missing";
}

TEST(Tidy, LinesFit) {
  const Findings findings = findings_in(files_below({"src", "include", "tools", "tests", "bench"}),
                                        [](const SourceFile& file) { return line_findings(file.path, file.text); });
  EXPECT_THAT(findings, IsEmpty()) << listed(findings);
}

TEST(Tidy, FileNamesSaySomething) {
  const Findings findings = findings_in(files_below({"src", "include", "tools", "tests", "bench", "docs"}),
                                        [](const SourceFile& file) { return name_findings(file.path); });
  EXPECT_THAT(findings, IsEmpty()) << listed(findings);
}

TEST(Tidy, MemoryOrdersAreWrittenOut) {
  const Findings findings = findings_in(files_below({"src"}), [](const SourceFile& file) -> Findings {
    if (!is_code(file.path)) return {};
    return order_findings(file.path, file.text);
  });
  EXPECT_THAT(findings, IsEmpty()) << listed(findings);
}

TEST(Tidy, NothingIsLeftForLater) {
  const Findings findings = findings_in(files_below({"src", "include", "tools", "tests", "bench"}),
                                        [](const SourceFile& file) { return later_findings(file.path, file.text); });
  EXPECT_THAT(findings, IsEmpty()) << listed(findings);
}

TEST(Tidy, HeadersOpenWithWhatTheyAre) {
  const Findings findings = findings_in(files_below({"src", "include"}), [](const SourceFile& file) -> Findings {
    if (!is_header(file.path)) return {};
    return head_findings(file.path, file.text);
  });
  EXPECT_THAT(findings, IsEmpty()) << listed(findings);
}

}  // namespace
