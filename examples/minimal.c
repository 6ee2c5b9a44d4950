/* minimal.c - attention in one small program: plan once, run, look at the result.
 *
 *   cc minimal.c $(pkg-config --cflags --libs bsdattn) -o minimal && ./minimal
 *
 * q and k are zero, so a query weighs all keys that it sees alike; v holds positions, so o is the mean
 * position of those keys. */
#include <bsdattn.h>
#include <stdio.h>

enum { LENGTH = 256, HEADS = 1, DIM = 16 };

static int fail(const char *what, const char *why) {
  fprintf(stderr, "minimal: %s: %s\n", what, why);
  return 1;
}

int main(void) {
  static float q[LENGTH * DIM], k[LENGTH * DIM], v[LENGTH * DIM], o[LENGTH * DIM];
  for (int i = 0; i < LENGTH; i++)
    v[i * DIM] = (float)i;

  bsd_error error;
  bsd_context *context = NULL;
  bsd_context_options options = {.struct_size = sizeof options, .backend = BSD_BACKEND_CPU};
  if (bsd_context_create(&options, &context, &error) != BSD_OK)
    return fail("bsd_context_create", error.message);

  bsd_pattern *pattern = NULL; /* segments of 64 tokens */
  if (bsd_pattern_parse("w=64", &pattern, &error) != BSD_OK)
    return fail("bsd_pattern_parse", error.message);

  bsd_plan *plan = NULL;
  bsd_problem problem = {.struct_size = sizeof problem,
                         .length = LENGTH,
                         .heads = HEADS,
                         .head_dim = DIM,
                         .causal = 1};
  if (bsd_plan_create(context, pattern, &problem, &plan) != BSD_OK)
    return fail("bsd_plan_create", bsd_last_error(context));

  bsd_tensor tq = {.data = q}, tk = {.data = k}, tv = {.data = v}, to = {.data = o};
  if (bsd_forward(plan, &tq, &tk, &tv, &to, NULL, NULL) != BSD_OK ||
      bsd_plan_wait(plan, 0) != BSD_OK)
    return fail("bsd_forward", bsd_last_error(context));

  /* Query 100 sees keys 64 to 100 of its segment: their mean is 82. */
  printf("bsdattn %s: query 100 sees keys whose mean position is %g\n", bsd_version(),
         (double)o[100 * DIM]);
  int good = o[100 * DIM] > 81.99f && o[100 * DIM] < 82.01f;
  bsd_plan_destroy(plan);
  bsd_pattern_destroy(pattern);
  bsd_context_destroy(context);
  return good ? 0 : 1;
}
