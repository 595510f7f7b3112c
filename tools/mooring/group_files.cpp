#include "group_files.hpp"

#include <fmt/format.h>

#include <cstring>

#include "base/atomics.hpp"
#include "segment/instance_paths.hpp"
#include "segment/names.hpp"

namespace mooring::cli {

QueueFiles open_queue_files(const InstanceFiles& instance, const std::string& queue) {
  QueueFiles::AttachOptions options;
  options.prefault = false;
  Result<QueueFiles> files = QueueFiles::attach(instance.shared_directory, instance.owner, queue, options);
  if (!files) throw Failure(static_cast<int>(files.error().code), files.error().text);
  return std::move(*files);
}

GroupFiles open_group_files(const InstanceFiles& instance, const std::string& queue, const std::string& group) {
  QueueFiles files = open_queue_files(instance, queue);
  for (std::uint32_t index = 0; index < files.constants().groups_max; ++index) {
    const layout::GroupSlot& slot = files.group_slot(index);
    const u64 life = HardwareAtomics::load(slot.slot, std::memory_order_acquire);
    if (layout::slot_life(life) == layout::SlotLife::kLive &&
        std::string_view(slot.name, ::strnlen(slot.name, sizeof slot.name)) == group) {
      return {std::move(files), index, layout::slot_generation(life)};
    }
  }
  throw Failure(MOORING_ERR_NO_SUCH_QUEUE,
                fmt::format("queue {} has no group {}; `mooring info {}` lists them", queue, group, queue));
}

std::string log_directory(const Context& context, const QueueFiles& files, const std::string& queue) {
  if (!layout::has_log(files.constants())) return {};
  const Result<InstancePaths> paths = resolve_instance(context.instance, /*create=*/false);
  if (!paths) throw Failure(static_cast<int>(paths.error().code), paths.error().text);
  return paths->data_directory + "/" + queue_directory_name(queue);
}

}  // namespace mooring::cli
