#include "delivery/policy.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <functional>

namespace mooring {
namespace {

constexpr u64 kMsNs = 1'000'000;
constexpr u64 kSecondNs = 1'000'000'000;
constexpr u64 kMessagesMost = u64{1} << 40;
constexpr u64 kHourNs = 3600 * kSecondNs;
// A window is looked at in tenths, a tick is 10 ms.
constexpr u64 kWindowLeastNs = 100 * kMsNs;
constexpr u64 kDayNs = 24 * kHourNs;
constexpr u32 kStuckAfterMost = 1000;

tl::unexpected<Error> bad_value(std::string_view key, std::string_view value, std::string_view want) {
  return fail(Code::kBadArgument,
              std::string(key) + " = \"" + std::string(value) + "\" is not possible; give " + std::string(want));
}

Result<u64> parse_count(std::string_view key, std::string_view text, u64 most, u64 least = 0) {
  u64 number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number > most || number < least) {
    return bad_value(key, text, "a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  }
  return number;
}

std::string milli_text(u32 milli) {
  std::string text = std::to_string(milli / 1000) + "." + std::to_string(1000 + milli % 1000).substr(1);
  while (text.back() == '0' && text[text.size() - 2] != '.') text.pop_back();
  return text;
}

// Bounds in thousandths, as the value is kept.
Result<u32> parse_milli(std::string_view key, std::string_view text, u32 least, u32 most) {
  const std::string copy(text);
  char* end = nullptr;
  const double number = std::strtod(copy.c_str(), &end) * 1000;
  if (copy.empty() || end != copy.c_str() + copy.size() || !(number >= least && number <= most)) {
    return bad_value(key, text, "a number from " + milli_text(least) + " to " + milli_text(most));
  }
  return static_cast<u32>(std::lround(number));
}

Status set_backoff(GroupPolicy* policy, std::string_view value) {
  policy->backoff_count = 0;
  std::fill(std::begin(policy->backoff_ns), std::end(policy->backoff_ns), u64{0});
  if (value.empty() || value == "none") return {};
  while (true) {
    const std::size_t comma = value.find(',');
    if (policy->backoff_count == layout::kBackoffMax) {
      return bad_value("backoff", value, "at most 16 delays, as in 1s,5s,30s");
    }
    Result<u64> delay = parse_duration(value.substr(0, comma));
    if (!delay) return fail(delay.error());
    policy->backoff_ns[policy->backoff_count++] = *delay;
    if (comma == std::string_view::npos) return {};
    value.remove_prefix(comma + 1);
  }
}

struct Setting {
  const char* key;
  std::function<Status(GroupPolicy*, std::string_view)> set;
  std::function<std::string(const GroupPolicy&)> text;
};

Setting duration_setting(const char* key, u64 GroupPolicy::*member) {
  return {key,
          [member](GroupPolicy* policy, std::string_view value) -> Status {
            Result<u64> parsed = parse_duration(value);
            if (!parsed) return fail(parsed.error());
            policy->*member = *parsed;
            return {};
          },
          [member](const GroupPolicy& policy) { return duration_text(policy.*member); }};
}

Setting bounded_duration_setting(const char* key, u64 GroupPolicy::*member, u64 least, u64 most) {
  Setting setting = duration_setting(key, member);
  setting.set = [key, member, least, most](GroupPolicy* policy, std::string_view value) -> Status {
    Result<u64> parsed = parse_duration(value);
    if (!parsed) return fail(parsed.error());
    if (*parsed < least || *parsed > most) {
      return bad_value(key, value, "a duration from " + duration_text(least) + " to " + duration_text(most));
    }
    policy->*member = *parsed;
    return {};
  };
  return setting;
}

Setting count_setting(const char* key, u32 GroupPolicy::*member, u32 least, u32 most) {
  return {key,
          [key, member, least, most](GroupPolicy* policy, std::string_view value) -> Status {
            Result<u64> parsed = parse_count(key, value, most, least);
            if (!parsed) return fail(parsed.error());
            policy->*member = static_cast<u32>(*parsed);
            return {};
          },
          [member](const GroupPolicy& policy) { return std::to_string(policy.*member); }};
}

Setting milli_setting(const char* key, u32 GroupPolicy::*member, u32 least, u32 most) {
  return {key,
          [key, member, least, most](GroupPolicy* policy, std::string_view value) -> Status {
            Result<u32> parsed = parse_milli(key, value, least, most);
            if (!parsed) return fail(parsed.error());
            policy->*member = *parsed;
            return {};
          },
          [member](const GroupPolicy& policy) { return milli_text(policy.*member); }};
}

Setting choice_setting(const char* key, u32 GroupPolicy::*member, const char* zero, const char* one) {
  return {key,
          [key, member, zero, one](GroupPolicy* policy, std::string_view value) -> Status {
            if (value != zero && value != one) return bad_value(key, value, std::string(zero) + " or " + one);
            policy->*member = value == one ? 1 : 0;
            return {};
          },
          [member, zero, one](const GroupPolicy& policy) { return std::string(policy.*member == 0 ? zero : one); }};
}

const std::vector<Setting>& settings() {
  static const std::vector<Setting> all = {
      duration_setting("retry_initial", &GroupPolicy::retry_initial_ns),
      milli_setting("retry_multiplier", &GroupPolicy::retry_multiplier_milli, 1000, 100'000),
      duration_setting("retry_max", &GroupPolicy::retry_max_ns),
      milli_setting("retry_jitter", &GroupPolicy::retry_jitter_milli, 0, 1000),
      {"backoff", set_backoff,
       [](const GroupPolicy& policy) {
         std::string text;
         for (u32 i = 0; i < policy.backoff_count; ++i) {
           text += (i == 0 ? "" : ",") + duration_text(policy.backoff_ns[i]);
         }
         return text.empty() ? std::string("none") : text;
       }},
      count_setting("max_deliveries", &GroupPolicy::max_deliveries, 0, layout::kFailedMax),
      duration_setting("ack_wait", &GroupPolicy::ack_wait_ns),
      {"dlq_max_messages",
       [](GroupPolicy* policy, std::string_view value) -> Status {
         Result<u64> parsed = parse_count("dlq_max_messages", value, kMessagesMost);
         if (!parsed) return fail(parsed.error());
         policy->dlq_max_messages = *parsed;
         return {};
       },
       [](const GroupPolicy& policy) { return std::to_string(policy.dlq_max_messages); }},
      duration_setting("dlq_max_age", &GroupPolicy::dlq_max_age_ns),
      choice_setting("on_dlq_full", &GroupPolicy::on_dlq_full, "pause", "drop_oldest"),
      choice_setting("on_dead", &GroupPolicy::on_dead, "keep", "drop"),
      choice_setting("breaker", &GroupPolicy::breaker, "off", "on"),
      milli_setting("breaker_failure_ratio", &GroupPolicy::breaker_failure_milli, 1, 1000),
      count_setting("breaker_minimum", &GroupPolicy::breaker_minimum, 1, kBreakerMessagesMax),
      bounded_duration_setting("breaker_window", &GroupPolicy::breaker_window_ns, kWindowLeastNs, kDayNs),
      bounded_duration_setting("breaker_delay", &GroupPolicy::breaker_delay_ns, kMsNs, kDayNs),
      bounded_duration_setting("breaker_delay_max", &GroupPolicy::breaker_delay_max_ns, kMsNs, 7 * kDayNs),
      choice_setting("stuck", &GroupPolicy::stuck, "off", "kill"),
      count_setting("stuck_after", &GroupPolicy::stuck_after, 1, kStuckAfterMost),
  };
  return all;
}

// Edits that turn one word into the other.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t corner = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, corner + (a[i - 1] == b[j - 1] ? 0 : 1)});
      corner = above;
    }
  }
  return row[b.size()];
}

}  // namespace

GroupPolicy default_policy() {
  GroupPolicy policy{};
  policy.retry_initial_ns = 100 * kMsNs;
  policy.retry_max_ns = 60 * kSecondNs;
  policy.ack_wait_ns = 30 * kSecondNs;
  policy.dlq_max_messages = 1'000'000;
  policy.retry_multiplier_milli = 2000;
  policy.retry_jitter_milli = 150;
  policy.max_deliveries = 5;
  policy.breaker_failure_milli = 500;
  policy.breaker_minimum = 10;
  policy.breaker_window_ns = 10 * kSecondNs;
  policy.breaker_delay_ns = 5 * kSecondNs;
  policy.breaker_delay_max_ns = 300 * kSecondNs;
  policy.stuck_after = 4;
  return policy;
}

Status check_policy(const GroupPolicy& policy, const std::string& where) {
  const auto bad = [&where](const char* what) {
    return fail(Code::kCorrupt, where + ": a group's " + what + " cannot be");
  };
  for (const u64 delay : {policy.retry_initial_ns, policy.retry_max_ns, policy.ack_wait_ns, policy.dlq_max_age_ns}) {
    if (delay > kDelayMostNs) return bad("retry delays");
  }
  if (policy.retry_multiplier_milli < 1000 || policy.retry_multiplier_milli > 100'000) return bad("retry_multiplier");
  if (policy.retry_jitter_milli > 1000) return bad("retry_jitter");
  if (policy.max_deliveries > layout::kFailedMax) return bad("max_deliveries");
  if (policy.dlq_max_messages > kMessagesMost) return bad("dlq_max_messages");
  if (policy.on_dead > 1 || policy.on_dlq_full > 1) return bad("on_dead or on_dlq_full");
  if (policy.backoff_count > layout::kBackoffMax) return bad("backoff");
  for (u32 i = 0; i < policy.backoff_count; ++i) {
    if (policy.backoff_ns[i] > kDelayMostNs) return bad("backoff");
  }
  if (policy.breaker > 1 || policy.breaker_failure_milli == 0 || policy.breaker_failure_milli > 1000 ||
      policy.breaker_minimum == 0 || policy.breaker_minimum > kBreakerMessagesMax ||
      policy.breaker_window_ns < kWindowLeastNs || policy.breaker_window_ns > kDayNs ||
      policy.breaker_delay_ns < kMsNs || policy.breaker_delay_ns > kDayNs || policy.breaker_delay_max_ns < kMsNs ||
      policy.breaker_delay_max_ns > 7 * kDayNs) {
    return bad("breaker");
  }
  if (policy.stuck > 1 || policy.stuck_after == 0 || policy.stuck_after > kStuckAfterMost) return bad("stuck");
  return {};
}

Status set_policy(GroupPolicy* policy, std::string_view key, std::string_view value) {
  const Setting* nearest = nullptr;
  for (const Setting& setting : settings()) {
    if (key == setting.key) {
      GroupPolicy changed = *policy;
      if (Status set = setting.set(&changed, value); !set) {
        return fail(Code::kBadArgument, set.error().text.starts_with(setting.key)
                                            ? set.error().text
                                            : std::string(setting.key) + ": " + set.error().text);
      }
      *policy = changed;
      return {};
    }
    if (nearest == nullptr || distance(key, setting.key) < distance(key, nearest->key)) nearest = &setting;
  }
  return fail(Code::kBadArgument, "a group has no setting \"" + std::string(key) + "\"; did you mean " + nearest->key +
                                      "? (mooring info lists them all)");
}

std::vector<std::pair<std::string, std::string>> policy_settings(const GroupPolicy& policy) {
  std::vector<std::pair<std::string, std::string>> all;
  for (const Setting& setting : settings()) all.emplace_back(setting.key, setting.text(policy));
  return all;
}

u64 retry_delay_ns(const GroupPolicy& policy, u32 failed, u64 random) {
  double delay = 0;
  if (policy.backoff_count != 0) {
    const u32 count = std::min(policy.backoff_count, layout::kBackoffMax);
    delay = static_cast<double>(policy.backoff_ns[std::min(std::max(failed, 1U), count) - 1]);
  } else {
    delay = static_cast<double>(policy.retry_initial_ns) *
            std::pow(policy.retry_multiplier_milli / 1000.0, std::max(failed, 1U) - 1);
    delay = std::min(delay, static_cast<double>(policy.retry_max_ns));
  }
  const double unit = static_cast<double>(random >> 11) * 0x1p-53;  // [0, 1)
  delay *= 1 + policy.retry_jitter_milli / 1000.0 * (2 * unit - 1);
  return static_cast<u64>(std::clamp(delay, 0.0, static_cast<double>(kDelayMostNs)));
}

Result<u64> parse_duration(std::string_view text) {
  const std::string copy(text);
  char* end = nullptr;
  const double number = std::strtod(copy.c_str(), &end);
  const std::string_view unit(end, static_cast<std::size_t>(copy.c_str() + copy.size() - end));
  double scale = 0;
  if (unit == "ns") scale = 1;
  if (unit == "us") scale = 1e3;
  if (unit == "ms") scale = 1e6;
  if (unit == "s") scale = 1e9;
  if (unit == "m") scale = 60e9;
  if (unit == "h") scale = 3600e9;
  if (unit == "d") scale = 24 * 3600e9;
  if (unit.empty() && number == 0 && end != copy.c_str()) scale = 1;
  const double ns = number * scale;
  if (end == copy.c_str() || scale == 0 || !(ns >= 0 && ns <= static_cast<double>(kDelayMostNs))) {
    return fail(Code::kBadArgument, "\"" + copy +
                                        "\" is not a duration; give a number and ns, us, ms, s, m, h or d, "
                                        "at most 366d, as in 250ms");
  }
  return static_cast<u64>(std::llround(ns));
}

std::string duration_text(u64 ns) {
  constexpr std::pair<u64, const char*> kUnits[] = {{24 * 3600 * kSecondNs, "d"},
                                                    {3600 * kSecondNs, "h"},
                                                    {60 * kSecondNs, "m"},
                                                    {kSecondNs, "s"},
                                                    {kMsNs, "ms"},
                                                    {1000, "us"}};
  for (const auto& [unit, name] : kUnits) {
    if (ns != 0 && ns % unit == 0) return std::to_string(ns / unit) + name;
  }
  return ns == 0 ? "0s" : std::to_string(ns) + "ns";
}

}  // namespace mooring
