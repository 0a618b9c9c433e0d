/* The programs of the one executable. Each takes main()'s arguments (argv[0] is the program's name) and
 * answers the exit status. */
#pragma once

int etcd_main(int argc, char **argv);
int etcdctl_main(int argc, char **argv);
int fleetd_main(int argc, char **argv);
int fleetctl_main(int argc, char **argv);
int confd_main(int argc, char **argv);
int keeper_main(int argc, char **argv);
int dev_main(int argc, char **argv);
