// The name in a group's slot: bounded, whatever the bytes say.
#pragma once

#include <cstring>
#include <string_view>

#include "layout/ctl.hpp"

namespace mooring {

inline std::string_view group_name(const layout::GroupSlot& slot) {
  return {slot.name, ::strnlen(slot.name, layout::kNameLengthMax)};
}

}  // namespace mooring
