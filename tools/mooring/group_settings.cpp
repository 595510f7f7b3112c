// mooring set, pause, resume: how a group treats its messages, live.
#include <fmt/format.h>

#include "command.hpp"

namespace mooring::cli {
namespace {

struct GroupArguments {
  std::string queue;
  std::string group = "default";
  std::vector<std::string> settings;
};

void add_group_options(CLI::App* command, const std::shared_ptr<GroupArguments>& arguments) {
  command->add_option("queue", arguments->queue, "name")->required();
  command->add_option("--group", arguments->group, "group")->capture_default_str();
}

int run_set(const GroupArguments& arguments, const Context& context) {
  Instance instance = connect(context);
  Json done = Json::object();
  for (const std::string& setting : arguments.settings) {
    const std::size_t equals = setting.find('=');
    if (equals == std::string::npos) {
      throw Failure(MOORING_ERR_BAD_ARGUMENT,
                    fmt::format("\"{}\" is not a setting; give KEY=VALUE, as in retry_initial=250ms", setting));
    }
    const std::string key = setting.substr(0, equals);
    instance.set_group(arguments.queue, arguments.group, key, setting.substr(equals + 1));
    done[key] = setting.substr(equals + 1);
  }
  if (context.json) {
    print_json({{"queue", arguments.queue}, {"group", arguments.group}, {"set", done}});
  } else {
    for (const auto& [key, value] : done.items()) {
      fmt::print("{} of group {} of queue {} is {}\n", key, arguments.group, arguments.queue, value.get<std::string>());
    }
  }
  return kExitOk;
}

int run_pause(const GroupArguments& arguments, const Context& context, bool pause) {
  Instance instance = connect(context);
  bool stays = pause;
  if (pause) {
    instance.pause_group(arguments.queue, arguments.group);
  } else {
    stays = !instance.resume_group(arguments.queue, arguments.group);
  }
  if (context.json) {
    print_json({{"queue", arguments.queue}, {"group", arguments.group}, {"paused", stays}});
  } else if (pause) {
    fmt::print(
        "group {} of queue {} gives nothing out until `mooring resume {}`; what consumers hold they may settle\n",
        arguments.group, arguments.queue, arguments.queue);
  } else if (stays) {
    fmt::print("{}\n", mooring_error_detail());  // says which of the two other pauses it is
  } else {
    fmt::print("group {} of queue {} goes on\n", arguments.group, arguments.queue);
  }
  return stays && !pause ? kExitFailed : kExitOk;
}

}  // namespace

void add_group_settings(CLI::App& app, Context& context) {
  auto arguments = std::make_shared<GroupArguments>();
  CLI::App* set = add_command(app, context, "set", "change settings of a group: retries, dead letters, ack_wait",
                              "mooring set orders --group billing retry_initial=250ms max_deliveries=8",
                              [arguments, &context] { return run_set(*arguments, context); });
  add_group_options(set, arguments);
  set->add_option("settings", arguments->settings, "KEY=VALUE, one or more; `mooring info` shows them all")->required();
  CLI::App* pause = add_command(app, context, "pause", "give nothing out of a group until it is resumed",
                                "mooring pause orders --group billing",
                                [arguments, &context] { return run_pause(*arguments, context, true); });
  add_group_options(pause, arguments);
  CLI::App* resume =
      add_command(app, context, "resume", "let a paused group go on", "mooring resume orders --group billing",
                  [arguments, &context] { return run_pause(*arguments, context, false); });
  add_group_options(resume, arguments);
}

}  // namespace mooring::cli
