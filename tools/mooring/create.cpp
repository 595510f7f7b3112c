// mooring create: a queue, or one more group of it.
#include <fmt/format.h>
#include <grp.h>

#include <charconv>

#include "inspect.hpp"

namespace mooring::cli {
namespace {

struct Create {
  std::string queue;
  std::string kind = "mpmc";
  std::string durability = "volatile";
  std::string deliver = "durable";
  std::string overflow = "block";
  std::uint64_t capacity = 0;
  std::string max_message = "0";
  std::string lane = "0";
  std::string journal_quota = "0";
  std::string max_backlog = "0";
  std::string dedup_window;
  std::uint64_t dedup_max = 0;
  std::uint32_t producers = 0;
  std::uint32_t consumers = 0;
  std::uint32_t groups_max = 0;
  std::string mode = "0600";
  std::string owner_group;
  std::vector<std::string> groups;
  std::vector<CLI::Option*> of_queue;  // the options that say what queue it is
  bool describes_queue = false;        // any of them was given
  std::string group_mode;
  std::string start = "tail";
};

// "tail", "oldest" or the number of a message.
mooring_group_options group_options_of(const Create& create, bool exclusive) {
  const std::uint32_t mode = exclusive ? MOORING_MODE_EXCLUSIVE : MOORING_MODE_COMPETING;
  if (create.start == "tail") return group_options(mode, MOORING_START_TAIL);
  if (create.start == "oldest") return group_options(mode, MOORING_START_OLDEST);
  std::uint64_t seq = 0;
  const char* end = create.start.data() + create.start.size();
  const auto [stopped, error] = std::from_chars(create.start.data(), end, seq);
  if (error != std::errc() || stopped != end || seq == 0) {
    throw CLI::ValidationError(
        fmt::format("--start {}: give tail, oldest or the number of a message (seq)", create.start));
  }
  return group_options(mode, MOORING_START_SEQ, seq);
}

std::string said_of(const std::string& group, bool exclusive, std::uint64_t first) {
  const std::string there = fmt::format("group {} is there ({})", group, exclusive ? "exclusive" : "competing");
  return first == 0 ? there : fmt::format("{}, it begins with message {}", there, first);
}

bool is_spsc(const Create& create, const Context& context) {
  return inspect_queue(open_instance_files(context), create.queue).spsc;
}

// Groups of a queue that is there, whatever it was created with. False: there is no such queue.
bool add_groups(Instance& instance, const Create& create, const Context& context) {
  for (const std::string& group : create.groups) {
    bool exclusive = create.group_mode == "exclusive";
    std::uint64_t first = 0;
    try {
      first = instance.create_group(create.queue, group, group_options_of(create, exclusive));
    } catch (const Failure& failure) {
      if (failure.code() == MOORING_ERR_NO_SUCH_QUEUE) return false;
      // An spsc queue has no others.
      if (failure.code() != MOORING_ERR_BAD_ARGUMENT || !create.group_mode.empty() || !is_spsc(create, context)) throw;
      exclusive = true;
      first = instance.create_group(create.queue, group, group_options_of(create, exclusive));
    }
    if (!context.json) fmt::print("{}\n", said_of(group, exclusive, first));
  }
  if (context.json) print_json({{"queue", create.queue}, {"groups", create.groups}});
  return true;
}

int run(const Create& create, const Context& context) {
  mooring_queue_options options;
  mooring_queue_options_init(&options, sizeof options);
  options.kind = create.kind == "spsc" ? MOORING_KIND_SPSC : MOORING_KIND_MPMC;
  options.overflow = create.overflow == "reject"  ? MOORING_OVERFLOW_REJECT
                     : create.overflow == "spill" ? MOORING_OVERFLOW_SPILL
                                                  : MOORING_OVERFLOW_BLOCK;
  options.durability = create.durability == "durable" ? MOORING_DURABLE : MOORING_VOLATILE;
  options.deliver = create.deliver == "early" ? MOORING_DELIVER_EARLY : MOORING_DELIVER_DURABLE;
  options.capacity = create.capacity;
  options.max_message_bytes = parse_size(create.max_message);
  options.lane_bytes = parse_size(create.lane);
  options.journal_quota_bytes = parse_size(create.journal_quota);
  options.max_backlog_bytes = parse_size(create.max_backlog);
  if (!create.dedup_window.empty()) options.dedup_window_ns = parse_time(create.dedup_window);
  options.dedup_max_messages = create.dedup_max;
  options.producers_max = create.producers;
  options.consumers_max = create.consumers;
  options.groups_max = create.groups_max;
  char* end = nullptr;
  const unsigned long bits = std::strtoul(create.mode.c_str(), &end, 8);
  if (create.mode.empty() || *end != '\0' || (bits & ~0666UL) != 0 || bits == 0) {
    throw CLI::ValidationError(
        fmt::format("--mode {}: octal permission bits of read and write, like 0660", create.mode));
  }
  options.file_mode = static_cast<std::uint32_t>(bits);
  if (!create.owner_group.empty()) {
    const group* entry = ::getgrnam(create.owner_group.c_str());
    if (entry == nullptr) {
      throw CLI::ValidationError(fmt::format("--owner-group {}: no such Unix group", create.owner_group));
    }
    options.group_id = entry->gr_gid;
  }
  static_cast<void>(group_options_of(create, false));  // before anything is created
  Instance instance = connect(context);
  if (!create.describes_queue && !create.groups.empty() && add_groups(instance, create, context)) return kExitOk;
  instance.create_queue(create.queue, options);
  const bool exclusive =
      create.group_mode.empty() ? options.kind == MOORING_KIND_SPSC : create.group_mode == "exclusive";
  std::vector<std::uint64_t> begins;
  for (const std::string& group : create.groups) {
    begins.push_back(instance.create_group(create.queue, group, group_options_of(create, exclusive)));
  }
  if (context.json) {
    print_json(
        {{"queue", create.queue}, {"kind", create.kind}, {"durability", create.durability}, {"groups", create.groups}});
  } else {
    fmt::print("queue {} is there ({}, {})\n", create.queue, create.kind, create.durability);
    for (std::size_t i = 0; i < begins.size(); ++i) {
      fmt::print("{}\n", said_of(create.groups[i], exclusive, begins[i]));
    }
  }
  return kExitOk;
}

}  // namespace

void add_create(CLI::App& app, Context& context) {
  auto create = std::make_shared<Create>();
  CLI::App* command = add_command(
      app, context, "create", "create a queue, or add groups to one; what is there with the same options stays",
      "mooring create orders --kind mpmc --capacity 65536 --group billing --group-mode competing", [create, &context] {
        create->describes_queue =
            std::ranges::any_of(create->of_queue, [](const auto* option) { return !option->empty(); });
        return run(*create, context);
      });
  command->add_option("queue", create->queue, "name")->required();
  command->add_option("--kind", create->kind, "spsc: one producer, exclusive groups; mpmc: many of both")
      ->check(CLI::IsMember({"spsc", "mpmc"}))
      ->capture_default_str();
  command
      ->add_option("--durability", create->durability,
                   "volatile: survives the death of any process, not a reboot; durable: a power cut, too")
      ->check(CLI::IsMember({"volatile", "durable"}))
      ->capture_default_str();
  command
      ->add_option("--deliver", create->deliver,
                   "of a durable queue: what is on the disk, or early, what a power cut may take back")
      ->check(CLI::IsMember({"durable", "early"}))
      ->capture_default_str();
  command->add_option("--journal-quota", create->journal_quota,
                      "of a durable queue: disk its messages may take, like 1G; at least 16M (default no bound)");
  command
      ->add_option("--overflow", create->overflow,
                   "what a full queue does to publishers; spill: old messages go to files and make room")
      ->check(CLI::IsMember({"block", "reject", "spill"}))
      ->capture_default_str();
  command->add_option("--capacity", create->capacity, "messages, a power of two from 4096 (default 65536)");
  command->add_option("--max-message", create->max_message, "largest message, like 64K or 16M (default lane / 4)");
  command->add_option("--lane", create->lane, "bytes of payload memory for each producer, like 1M");
  command->add_option(
      "--max-backlog", create->max_backlog,
      "of a durable or spilling queue: how much of its log may wait for its groups, like 10G (default 64G)");
  command
      ->add_option(
          "--dedup-window", create->dedup_window,
          "of a durable queue: a message-id that comes again within this time, like 10m, is a duplicate and is "
          "not delivered (with --dedup-max alone: 10m; default off)")
      ->check([](const std::string& text) -> std::string {
        static_cast<void>(parse_time(text));
        return "";
      });
  command->add_option("--dedup-max", create->dedup_max,
                      "of a durable queue: how many message-ids it remembers (with --dedup-window alone: 65536)");
  command->add_option("--producers", create->producers, "most producers at a time");
  command->add_option("--consumers", create->consumers, "most consumers at a time");
  command->add_option("--groups", create->groups_max, "most groups");
  command->add_option("--mode", create->mode, "permission bits of the queue's files, octal")->capture_default_str();
  command->add_option("--owner-group", create->owner_group, "Unix group of the queue's files");
  create->of_queue = command->get_options([](const CLI::Option* option) {
    const std::string name = option->get_name();
    return name.starts_with("--") && name != "--help" && name != "--json" && name != "--instance";
  });
  command->add_option("--group", create->groups, "a group besides \"default\"; may be repeated");
  command
      ->add_option("--start", create->start,
                   "where a group that is not there yet begins: tail, oldest (the oldest message kept), or a seq")
      ->capture_default_str();
  command->add_option("--group-mode", create->group_mode, "of the groups named by --group")
      ->check(CLI::IsMember({"competing", "exclusive"}));
}

}  // namespace mooring::cli
