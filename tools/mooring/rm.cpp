// mooring rm: remove a queue, or a group of it.
#include <fmt/format.h>

#include "command.hpp"

namespace mooring::cli {

void add_rm(CLI::App& app, Context& context) {
  struct Remove {
    std::string queue;
    std::string group;
  };
  auto remove = std::make_shared<Remove>();
  CLI::App* command = add_command(
      app, context, "rm", "remove a queue with all its messages, or one group of it",
      "mooring rm orders --group billing", [remove, &context] {
        Instance instance = connect(context);
        if (remove->group.empty()) {
          instance.remove_queue(remove->queue);
        } else {
          instance.remove_group(remove->queue, remove->group);
        }
        if (context.json) {
          print_json({{"removed", remove->queue}, {"group", remove->group.empty() ? Json() : Json(remove->group)}});
        } else if (remove->group.empty()) {
          fmt::print("queue {} is removed; handles that are open say CLOSED\n", remove->queue);
        } else {
          fmt::print("group {} of queue {} is removed\n", remove->group, remove->queue);
        }
        return kExitOk;
      });
  command->add_option("queue", remove->queue, "name")->required();
  command->add_option("--group", remove->group, "remove only this group");
}

}  // namespace mooring::cli
