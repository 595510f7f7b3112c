/* Preloaded into mooringd by the tests of the tests: a flush that says "done" and does nothing. */
int fdatasync(int fd);
__attribute__((visibility("default"))) int fdatasync(int fd) {
  (void)fd;
  return 0;
}
