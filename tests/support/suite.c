/* suite.c - see suite.h. */
#include "support/suite.h"

#include "support/world.h"

int suite_run(const char *name, TCase *tests, int *argc, char ***argv) {
  world_start(argc, argv);
  Suite *suite = suite_create(name);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  if (world_size() > 1)
    srunner_set_fork_status(runner, CK_NOFORK);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  world_finish();
  return failed != 0;
}

void suite_expect(int good, const char *why) {
  ck_assert_msg(world_agree(good), "%s", good ? "failed on another rank" : why);
}
