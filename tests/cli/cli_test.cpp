// The command line as a user or a script drives it: each verb with --json, exit codes, texts, Ctrl-C, pipes.
#include <nlohmann/json.hpp>
#include <optional>

#include "support/service.hpp"

namespace mooring {
namespace {

using test::Service;
using Json = nlohmann::json;

struct Ran {
  int exit_code = -1;
  std::string out;
  std::vector<Json> objects() const {
    std::vector<Json> found;
    for (std::size_t at = 0; at < out.size();) {
      const std::size_t end = std::min(out.find('\n', at), out.size());
      found.push_back(Json::parse(out.substr(at, end - at), nullptr, false));
      at = end + 1;
    }
    return found;
  }
};

class Cli : public testing::Test {
 protected:
  // A shell line, in which `mooring` is ours. Standard error joins where the line says 2>&1.
  Ran run(const std::string& line) {
    Ran ran;
    const std::string whole = "PATH=" MOORING_BIN_DIR ":$PATH; cd " + service_.root() + "; " + line;
    std::FILE* pipe = ::popen(whole.c_str(), "r");
    if (pipe == nullptr) return ran;
    char buffer[4096];
    for (std::size_t got = 0; (got = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) ran.out.append(buffer, got);
    const int status = ::pclose(pipe);
    ran.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return ran;
  }
  Json one(const std::string& line) {
    const Ran ran = run(line);
    EXPECT_EQ(ran.exit_code, 0) << line;
    const auto objects = ran.objects();
    EXPECT_EQ(objects.size(), 1U) << ran.out;
    return objects.empty() || objects[0].is_discarded() ? Json::object() : objects[0];
  }
  Service service_;
};

TEST_F(Cli, EachVerbSpeaksJson) {
  service_.start();
  EXPECT_EQ(one("mooring create orders --capacity 4096 --group billing --json")["queue"], "orders");
  EXPECT_EQ(one("mooring publish orders hello --json")["published"], 1);
  const Json message = one("mooring receive orders --json");
  EXPECT_EQ(message["data"], "hello");
  EXPECT_EQ(message["attempt"], 1);
  EXPECT_EQ(message["redelivered"], false);
  const Json row = one("mooring ls --json");
  EXPECT_EQ(row["queue"], "orders");
  EXPECT_EQ(row["groups"].size(), 2U);
  const Json info = one("mooring info orders --json");
  EXPECT_EQ(info["capacity_messages"], 4096);
  EXPECT_EQ(info["state"], "open");
  EXPECT_EQ(info["groups"][0]["ready"], 0);
  EXPECT_EQ(info["groups"][1]["ready"], 1);
  EXPECT_EQ(run("mooring consumers orders --json").out, "");
  EXPECT_EQ(one("mooring rm orders --group billing --json")["group"], "billing");
  EXPECT_EQ(one("mooring rm orders --json")["removed"], "orders");
  EXPECT_EQ(run("mooring ls --json").out, "");
  EXPECT_EQ(one("mooring shutdown --json")["shutdown"], true);
  EXPECT_EQ(service_.wait_supervisor(), 0);
}

TEST_F(Cli, EndsAsScriptsExpect) {
  service_.start();
  EXPECT_EQ(run("mooring 2>/dev/null").exit_code, 2);
  EXPECT_EQ(run("mooring create 2>/dev/null").exit_code, 2);
  EXPECT_EQ(run("mooring create q --kind odd 2>/dev/null").exit_code, 2);
  EXPECT_EQ(run("mooring --help").exit_code, 0);
  const Ran missing = run("mooring publish nowhere x 2>&1");
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_NE(missing.out.find("no queue nowhere"), std::string::npos) << missing.out;
  const Ran json = run("mooring info nowhere --json 2>/dev/null");
  EXPECT_EQ(json.exit_code, 1);
  EXPECT_EQ(json.objects().at(0)["error"], -5001);
  run("mooring create q --capacity 4096");
  const Ran other = run("mooring create q --capacity 8192 2>&1");
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_NE(other.out.find("capacity"), std::string::npos) << other.out;
  EXPECT_EQ(run("mooring receive q").exit_code, 4);
  EXPECT_EQ(run("mooring receive q --follow --timeout 0.05").exit_code, 0);
}

TEST_F(Cli, PublishesLinesOfAFileAndOfAPipeAtARate) {
  service_.start();
  run("mooring create q --capacity 4096");
  EXPECT_EQ(one("seq 1 100 | mooring publish q --json")["published"], 100);
  EXPECT_EQ(one("seq 101 105 > lines; mooring publish q --file lines --rate 1000 --json")["published"], 5);
  EXPECT_EQ(run("mooring publish q --file nowhere 2>/dev/null").exit_code, 1);
  EXPECT_EQ(run("mooring receive q --count 105 | cksum").out, run("seq 1 105 | cksum").out);
}

TEST_F(Cli, PublishersWithoutAConsumerDoNotRunOutOfLanes) {
  service_.start();
  run("mooring create q --capacity 4096 --producers 4");
  const Ran published = run("for i in $(seq 200); do mooring publish q $i || exit 1; done 2>&1");
  EXPECT_EQ(published.exit_code, 0) << published.out;
  EXPECT_EQ(run("mooring receive q --count 200 | cksum").out, run("seq 200 | cksum").out);
  EXPECT_EQ(run("mooring receive q").exit_code, 4);
}

TEST_F(Cli, ExecAcknowledgesOrGivesBack) {
  service_.start();
  run("mooring create q --capacity 4096");
  run("seq 1 3 | mooring publish q");
  EXPECT_EQ(run("mooring receive q --count 3 --exec 'cat >> got; echo $MOORING_ATTEMPT >> got'").exit_code, 0);
  EXPECT_EQ(run("cat got").out, "11\n21\n31\n");
  run("mooring publish q again");
  EXPECT_EQ(run("mooring receive q --exec false").exit_code, 0);
  const Json back = one("mooring receive q --count 1 --json");
  EXPECT_EQ(back["data"], "again");
  EXPECT_EQ(back["attempt"], 2);
  EXPECT_EQ(back["redelivered"], true);
  run("mooring publish q once-more");
  one("mooring receive q --nack --json");
  EXPECT_EQ(one("mooring receive q --count 1 --json")["attempt"], 2);
}

TEST_F(Cli, CtrlCEndsAFollowerInGoodOrder) {
  service_.start();
  run("mooring create q --capacity 4096; mooring publish q first");
  // The message it prints is how we know that it waits for the next one by now, or will.
  const Ran ran = run(
      "mkfifo pipe; mooring receive q --follow > pipe & reader=$!; read line < pipe; kill -INT $reader; wait $reader; "
      "echo \"$line $?\"");
  EXPECT_TRUE(ran.out == "first 130\n") << ran.out;
  EXPECT_EQ(run("mooring consumers q --json").out, "");
}

TEST_F(Cli, SaysWhatToDoWhereNobodyServes) {
  const Ran none = run("mooring ls 2>&1");
  EXPECT_EQ(none.exit_code, 1);
  const Ran publish = run("mooring publish q x 2>&1");
  EXPECT_EQ(publish.exit_code, 1);
  EXPECT_NE(publish.out.find("mooringd"), std::string::npos) << publish.out;
  EXPECT_NE(publish.out.find("MOORING_AUTOSTART"), std::string::npos) << publish.out;
  const Ran wrong = run("mooring publish q x --instance /no/such/place 2>&1");
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_NE(wrong.out.find("/no/such/place"), std::string::npos) << wrong.out;
  // Started on demand.
  EXPECT_EQ(run("MOORING_AUTOSTART=1 mooring create q --capacity 4096").exit_code, 0);
  EXPECT_EQ(run("mooring publish q x").exit_code, 0);
  EXPECT_EQ(run("mooring shutdown").exit_code, 0);
}

// As a distribution installs it: the library in lib/<triple> of the prefix.
TEST_F(Cli, FindsMooringdBesideAMultiArchLibrary) {
  run("mkdir -p prefix/bin prefix/lib/some-linux-gnu");
  run("cp " MOORING_BIN_DIR "/mooringd prefix/bin; cp -P " MOORING_BIN_DIR
      "/../lib/libmooring.so* prefix/lib/some-linux-gnu");
  const Ran created =
      run("unset MOORING_MOORINGD; export MOORING_AUTOSTART=1; LD_LIBRARY_PATH=$PWD/prefix/lib/some-linux-gnu "
          "PATH=/usr/bin:/bin " MOORING_BIN_DIR "/mooring create q --capacity 4096 2>&1");
  EXPECT_EQ(created.exit_code, 0) << created.out;
  EXPECT_EQ(run("readlink /proc/$(cat instance/mooringd.pid)/exe").out, service_.root() + "/prefix/bin/mooringd\n");
  EXPECT_EQ(run("mooring shutdown").exit_code, 0);
}

TEST_F(Cli, LooksAtQueuesWithEveryProcessDead) {
  service_.start();
  run("mooring create q --capacity 4096; mooring publish q x");
  service_.kill_supervisor();
  EXPECT_EQ(one("mooring info q --json")["groups"][0]["ready"], 1);
  EXPECT_EQ(one("mooring ls --json")["queue"], "q");
}

// Killed with its shared memory lost, as by a power cut: what was acknowledged is there again, and the log can be read
// without anybody.
TEST_F(Cli, ADurableQueueComesBackFromItsLog) {
  service_.start();
  EXPECT_EQ(one("mooring create bills --capacity 4096 --durability durable --json")["durability"], "durable");
  const Json published = one("seq 1 1000 | mooring publish bills --progress-file progress --json");
  EXPECT_EQ(published["published"], 1000);
  EXPECT_EQ(published["acknowledged"], 1000);
  EXPECT_EQ(run("cat progress").out, "1000\n");
  service_.kill_supervisor();
  const Ran verified = run("mooring journal verify instance/data/q-bills");
  EXPECT_EQ(verified.exit_code, 0) << verified.out;
  run("rm -rf \"$MOORING_SHM_ROOT\"/mooring-*");
  service_.start();
  EXPECT_EQ(run("mooring receive bills --count 1000 --ack").out, run("seq 1 1000").out);
  service_.kill_supervisor();

  // One byte of the first message's block.
  run("cp -r instance/data/q-bills copy; "
      "f=$(ls copy/log-* | head -1); printf X | dd of=$f bs=1 seek=9000 conv=notrunc 2>/dev/null");
  const Ran damaged = run("mooring journal verify copy 2>&1");
  EXPECT_EQ(damaged.exit_code, 1) << damaged.out;
  EXPECT_NE(damaged.out.find("log-"), std::string::npos) << damaged.out;
  EXPECT_EQ(run("mooring journal verify /no/such/place 2>&1").exit_code, 2);
}

TEST_F(Cli, ADamagedLogIsSalvagedByHandAndNothingIsDeleted) {
  service_.start();
  one("mooring create bills --capacity 4096 --durability durable --journal-quota 64M --json");
  const Json info = one("mooring info bills --json");
  EXPECT_EQ(info["durability"], "durable");
  EXPECT_EQ(info["journal_quota_bytes"], 64 << 20);
  EXPECT_EQ(run("mooring create bills --capacity 4096 --durability durable 2>&1").exit_code, 1);
  run("seq -f bill-%g 1 500 | mooring publish bills; seq -f bill-%g 501 1000 | mooring publish bills");
  const std::string salvage = "mooring journal salvage instance/data/q-bills";
  const std::string files = "ls -l --time-style=full-iso instance/data/q-bills";

  // Not while somebody serves it.
  const Ran served = run(salvage + " 2>&1");
  EXPECT_EQ(served.exit_code, 2);
  EXPECT_NE(served.out.find("in use"), std::string::npos) << served.out;
  service_.kill_supervisor();

  // Nothing to do for a whole one.
  const std::string before = run(files).out;
  const Json whole = one(salvage + " --json");
  EXPECT_EQ(whole["salvaged"], false);
  EXPECT_EQ(run(files).out, before);
  EXPECT_EQ(run("mooring journal salvage /no/such/place 2>&1").exit_code, 2);

  // One byte of bill 300; the block behind it proves that it was announced. Not while its memory is there; then mooringd refuses it, and leaves it as it is.
  run("f=$(ls instance/data/q-bills/log-* | head -1); at=$(grep -abo bill-300 $f | tail -1 | cut -d: -f1); "
      "printf X | dd of=$f bs=1 seek=$at conv=notrunc 2>/dev/null; cat instance/data/q-bills/log-* | cksum > sum");
  EXPECT_EQ(run("mooring journal verify instance/data/q-bills > /dev/null").exit_code, 1);
  const Ran remembered = run(salvage + " 2>&1");
  EXPECT_EQ(remembered.exit_code, 2);
  EXPECT_NE(remembered.out.find("shared memory"), std::string::npos) << remembered.out;
  run("rm -rf \"$MOORING_SHM_ROOT\"/mooring-*");
  service_.begin();
  EXPECT_TRUE(service_.logged("mooring journal salvage"));
  service_.kill_supervisor();
  const Ran ran = run(salvage + " --json");
  EXPECT_EQ(ran.exit_code, 1) << ran.out;
  const Json salvaged = ran.objects().at(0);
  EXPECT_EQ(salvaged["salvaged"], true);
  EXPECT_EQ(salvaged["row"], "E");
  EXPECT_GE(salvaged["lost"].size(), 1U);
  EXPECT_GE(salvaged["quarantined"].size(), 1U);
  EXPECT_EQ(run("cat instance/data/q-bills/quarantine-* | cksum").out, run("cat sum").out);
  EXPECT_EQ(run("mooring journal verify instance/data/q-bills > /dev/null").exit_code, 0);
  EXPECT_EQ(one(salvage + " --json")["salvaged"], false);

  // The rest is there again: all but what was said to be lost, in order.
  service_.start();
  const std::string count = std::to_string(salvaged["messages"].get<int>());
  const std::string rest = run("mooring receive bills --ack --count " + count).out;
  EXPECT_EQ(run("mooring receive bills").exit_code, 4);
  EXPECT_NE(rest.find("bill-700\nbill-701\n"), std::string::npos);
  EXPECT_EQ(rest.find("bill-300\n"), std::string::npos);
  EXPECT_EQ(one("mooring publish bills after --json")["acknowledged"], 1);
}

}  // namespace
}  // namespace mooring
