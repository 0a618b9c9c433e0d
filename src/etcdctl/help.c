/* Help texts, laid out as the original's: columns are padded with tabs to a multiple of eight. */
#include "etcdctl/ctl.h"

#include "base/text.h"

/* Left and right cells of one block; the left column is as wide as its widest cell and one blank, rounded up.
 */
struct table {
	struct buf left; /* cells, each ends in NUL */
	struct buf right;
	size_t widest;
};

static void table_add(struct table *table, const char *left, const char *right)
{
	table->widest = MAX(table->widest, strlen(left));
	buf_add(&table->left, left, strlen(left) + 1);
	buf_add(&table->right, right, strlen(right) + 1);
}

static void table_print(struct table *table, struct buf *out)
{
	size_t width = (table->widest + 1 + 7) / 8 * 8;
	const char *right = buf_text(&table->right), *end = buf_text(&table->left) + table->left.len;

	for (const char *left = buf_text(&table->left); left < end; left += strlen(left) + 1) {
		buf_add_str(out, left);
		buf_add_fill(out, '\t', (width - strlen(left) + 7) / 8);
		buf_add_str(out, right);
		buf_add_char(out, '\n');
		right += strlen(right) + 1;
	}
	buf_add_str(out, "   \n");
	buf_done(&table->left);
	buf_done(&table->right);
}

static void table_add_flag(struct table *table, const struct flag *flag)
{
	_cleanup_buf_ struct buf left = BUF_INIT(0);
	struct slice rest = slice_str(flag->name), spelling;

	buf_add_str(&left, "   ");
	while (rest.len) {
		(void)text_cut(rest, ',', &spelling, &rest);
		buf_add_str(&left, spelling.len == 1 ? "-" : "--");
		buf_add_slice(&left, spelling);
		if (rest.len)
			buf_add_str(&left, ", ");
	}
	if (flag->help_value)
		buf_printf(&left, " \"%s\"", flag->help_value);
	else if (flag->type == FLAG_LIST)
		buf_printf(&left, " [--%s option --%s option]", flag->name, flag->name);
	else if (flag->type != FLAG_BOOL)
		buf_add_char(&left, ' ');
	table_add(table, buf_text(&left), flag->help);
}

static void add_flags(struct buf *out, const struct flag *flags)
{
	struct table table = {0};

	for (const struct flag *flag = flags; flag->name; flag++)
		if (flag->help)
			table_add_flag(&table, flag);
	table_print(&table, out);
}

static void add_commands(struct buf *out, const struct ctl_command *commands)
{
	struct table table = {0};

	for (const struct ctl_command *command = commands; command->name; command++) {
		_cleanup_buf_ struct buf left = BUF_INIT(0);
		buf_printf(&left, "   %s", command->name);
		table_add(&table, buf_text(&left), command->help);
	}
	table_add(&table, "   help, h", "Shows a list of commands or help for one command");
	table_print(&table, out);
}

void ctl_add_app_help(struct buf *out, const struct flag *global_flags)
{
	buf_add_str(out, "NAME:\n   etcdctl - A simple command line client for etcd.\n\n"
			 "USAGE:\n   etcdctl [global options] command [command options] [arguments...]\n   \n"
			 "VERSION:\n   " CTL_VERSION "\n   \nCOMMANDS:\n");
	add_commands(out, ctl_commands);
	buf_add_str(out, "GLOBAL OPTIONS:\n");
	add_flags(out, global_flags);
}

void ctl_add_group_help(struct buf *out, const struct ctl_command *group)
{
	static const struct flag help_flag[] = {
		{.name = "help,h", .type = FLAG_BOOL, .help = "show help"}, {0}};

	buf_printf(out, "NAME:\n   etcdctl %s - %s\n\nUSAGE:\n", group->name, group->help);
	buf_printf(out, "   etcdctl %s command [command options] [arguments...]\n\nCOMMANDS:\n", group->name);
	add_commands(out, group->sub);
	buf_add_str(out, "OPTIONS:\n");
	add_flags(out, help_flag);
}

void ctl_add_command_help(struct buf *out, const struct ctl_command *group, const struct ctl_command *command)
{
	_cleanup_buf_ struct buf name = BUF_INIT(0);

	buf_printf(&name, "etcdctl %s%s%s", group ? group->name : "", group ? " " : "", command->name);
	buf_printf(out, "NAME:\n   %s - %s\n\nUSAGE:\n   %s%s %s\n", buf_text(&name), command->help,
		buf_text(&name), command->flags ? " [command options]" : "", command->args);
	if (command->description)
		buf_printf(out, "\nDESCRIPTION:\n   %s\n", command->description);
	if (command->flags) {
		buf_add_str(out, "\nOPTIONS:\n");
		add_flags(out, command->flags);
	}
}
