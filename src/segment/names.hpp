// Names of queues and groups, and of the files behind them.
//
// TESTED BY  segment/names_test
#pragma once

#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace mooring {

// 1 to 64 of [A-Za-z0-9._-], not beginning with '.' or '-'. `what` ("queue", "group") goes into the error. Names that
// end in ".dlq" are refused: they name the dead-letter view of a group.
Status check_name(std::string_view what, std::string_view name);

// Names of the directory of a queue and of the files in it.
inline constexpr std::string_view kQueueDirectoryPrefix = "q-";
std::string queue_directory_name(std::string_view queue);  // "q-<name>"
std::string group_file_name(u32 index);                    // "group-<k>"
std::string lane_file_name(u32 index);                     // "lane-<i>"
std::string seat_file_name(u32 index);                     // "seat-<i>"
inline constexpr std::string_view kCtlFileName = "ctl";
inline constexpr std::string_view kOrderFileName = "order";
inline constexpr std::string_view kWakeFileName = "wake";
inline constexpr std::string_view kParkFileName = "park";
inline constexpr std::string_view kBellFileName = "bell";
inline constexpr std::string_view kInstanceFileName = "instance";

}  // namespace mooring
