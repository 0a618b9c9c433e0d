/* Values of systemd.resource-control(5): sizes, shares and weights. Shares of the machine stay shares here;
 * limits.c makes numbers of them where they are used. */
#include "base/text.h"
#include "manager/config_internal.h"
#include <errno.h>

#define SHARE_ONE 10000 /* the whole, in hundredths of a percent */
#define FRACTION_DIGITS 9
#define PERCENT_MAX 10000000 /* a hundred thousand CPUs */

int config_parse_size(struct slice text, uint64_t *ret)
{
	static const char suffixes[] = "BKMGTPE";
	uint64_t whole, factor = 1, part = 0, scale = 1;
	size_t digits = 0, fraction = 0;
	struct slice tail;

	text = text_trim(text);
	while (digits < text.len && text.data[digits] >= '0' && text.data[digits] <= '9')
		digits++;
	if (!digits)
		return -EINVAL;
	if (text_to_u64(slice_make(text.data, digits), &whole) < 0)
		return -ERANGE;
	tail = slice_make(text.data + digits, text.len - digits);
	if (tail.len && tail.data[0] == '.') {
		for (fraction = 1;
			fraction < tail.len && tail.data[fraction] >= '0' && tail.data[fraction] <= '9';
			fraction++) {
			if (fraction > FRACTION_DIGITS)
				continue;
			part = part * 10 + (uint64_t)(tail.data[fraction] - '0');
			scale *= 10;
		}
		if (fraction == 1)
			return -EINVAL;
		tail = slice_make(tail.data + fraction, tail.len - fraction);
	}
	tail = text_trim(tail);
	if (tail.len) {
		const char *suffix = memchr(suffixes, tail.data[0], sizeof(suffixes) - 1);

		if (!suffix || tail.len != 1)
			return -EINVAL;
		factor = UINT64_C(1) << (10 * (suffix - suffixes));
	}
	if (__builtin_mul_overflow(whole, factor, &whole))
		return -ERANGE;
	part = (uint64_t)((double)part / (double)scale * (double)factor);
	return __builtin_add_overflow(whole, part, ret) ? -ERANGE : 0;
}

/* "20%", "12.5%", "0.25‰" is not known; in hundredths of a percent. */
static int parse_share(struct slice text, uint64_t *ret)
{
	struct slice whole, fraction;
	uint64_t percent, hundredths = 0;

	if (!text.len || text.data[text.len - 1] != '%')
		return -EINVAL;
	text = slice_make(text.data, text.len - 1);
	if (text_cut(text, '.', &whole, &fraction)) {
		if (!fraction.len || fraction.len > 2 || text_to_u64(fraction, &hundredths) < 0)
			return -EINVAL;
		if (fraction.len == 1)
			hundredths *= 10;
	}
	if (text_to_u64(whole, &percent) < 0 || percent > PERCENT_MAX)
		return -EINVAL;
	*ret = percent * 100 + hundredths;
	return 0;
}

static bool parse_amount(struct slice value, bool size, struct amount *ret)
{
	struct amount amount = {.kind = AMOUNT_ABSOLUTE};

	if (!value.len)
		amount.kind = AMOUNT_UNSET;
	else if (slice_is(value, "infinity"))
		amount.kind = AMOUNT_INFINITY;
	else if (parse_share(value, &amount.value) == 0 && amount.value <= SHARE_ONE)
		amount.kind = AMOUNT_SHARE;
	else if ((size ? config_parse_size(value, &amount.value) : text_to_u64(value, &amount.value)) < 0)
		return false;
	*ret = amount;
	return true;
}

void parse_memory(struct reader *reader, struct slice value, size_t offset)
{
	struct amount amount;
	bool may_be_zero = offset == CONFIG_OFFSET(resources.memory_min) ||
			   offset == CONFIG_OFFSET(resources.memory_low) ||
			   offset == CONFIG_OFFSET(resources.memory_swap_max);

	/* A unit that may have no memory at all could not even start. */
	if (parse_amount(value, true, &amount) &&
		(may_be_zero || amount.value || amount.kind == AMOUNT_UNSET ||
			amount.kind == AMOUNT_INFINITY))
		*CONFIG_FIELD(reader, struct amount, offset) = amount;
	else
		config_warn_value(reader, value, "a size such as 512M, a percentage or infinity");
}

void parse_tasks(struct reader *reader, struct slice value, size_t offset)
{
	struct amount amount;

	if (parse_amount(value, false, &amount) &&
		(amount.value || amount.kind == AMOUNT_UNSET || amount.kind == AMOUNT_INFINITY))
		*CONFIG_FIELD(reader, struct amount, offset) = amount;
	else
		config_warn_value(reader, value, "a number above 0, a percentage or infinity");
}

void parse_cpu_quota(struct reader *reader, struct slice value, size_t unused)
{
	uint64_t share;

	(void)unused;
	if (!value.len)
		reader->config->resources.cpu_quota_us = 0;
	else if (parse_share(value, &share) < 0 || !share)
		config_warn_value(reader, value, "a percentage of one CPU such as 20%");
	else
		reader->config->resources.cpu_quota_us = share * 1000000 / SHARE_ONE;
}

/* The kernel takes 1 ms to 1 s. */
void parse_cpu_period(struct reader *reader, struct slice value, size_t unused)
{
	const int64_t ms = 1000000;
	int64_t ns;

	(void)unused;
	if (!value.len)
		reader->config->resources.cpu_period_ns = 100 * ms;
	else if (unit_parse_span(value, &ns) < 0)
		config_warn_value(reader, value, "a time span such as 10ms");
	else
		reader->config->resources.cpu_period_ns = MAX(MIN(ns, 1000 * ms), ms);
}

void parse_cpu_weight(struct reader *reader, struct slice value, size_t shares)
{
	struct resource_config *resources = &reader->config->resources;
	uint64_t *field = shares ? &resources->cpu_shares : &resources->cpu_weight;
	int64_t number;

	if (!value.len)
		*field = 0;
	else if (!shares && slice_is(value, "idle"))
		*field = 1; /* the least there is: weights have no word for "only when nobody else runs" */
	else if (config_parse_number(reader, value, shares ? 2 : 1, shares ? 262144 : 10000, &number))
		*field = (uint64_t)number;
}
