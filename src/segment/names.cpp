#include "segment/names.hpp"

#include <algorithm>

#include "layout/ctl.hpp"

namespace mooring {
namespace {

// Not <cctype>: what is a letter must not depend on the locale of the host.
bool is_first(char letter) {
  return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9') ||
         letter == '_';
}
bool is_later(char letter) { return is_first(letter) || letter == '.' || letter == '-'; }

// A name that was refused may hold anything: for a log it is cut and made printable.
std::string quoted(std::string_view name) {
  std::string text(name.substr(0, layout::kNameLengthMax + 1));
  std::replace_if(
      text.begin(), text.end(), [](char letter) { return letter < ' ' || letter > '~'; }, '?');
  return "\"" + text + (name.size() > text.size() ? "...\"" : "\"");
}

}  // namespace

Status check_name(std::string_view what, std::string_view name) {
  const std::string begin = std::string(what) + " name " + quoted(name) + " is not valid: ";
  if (name.empty() || name.size() > layout::kNameLengthMax || !is_first(name.front()) ||
      !std::all_of(name.begin(), name.end(), is_later)) {
    return fail(Code::kBadArgument, begin + "give 1 to " + std::to_string(layout::kNameLengthMax) +
                                        " letters, digits, '_', '.' or '-', beginning with none of the last two");
  }
  if (name.ends_with(".dlq")) {
    return fail(Code::kBadArgument, begin + "names that end in .dlq are kept for dead letters; choose another ending");
  }
  return {};
}

std::string queue_directory_name(std::string_view queue) {
  return std::string(kQueueDirectoryPrefix) + std::string(queue);
}
std::string group_file_name(u32 index) { return "group-" + std::to_string(index); }
std::string lane_file_name(u32 index) { return "lane-" + std::to_string(index); }
std::string seat_file_name(u32 index) { return "seat-" + std::to_string(index); }

}  // namespace mooring
