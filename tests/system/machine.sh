#!/bin/sh
# machine.sh run DIR NAME MACHINE_ID NETWORK [SHOWN...]: runs a throw-away machine of namespaces whose PID 1 is this system's
# systemd, until that dies or standard input ends. The machine's disk is DIR/disk (/etc, /var, /home and /root; made when it is
# not there), /usr is this system's, with the programs of DIR/bin where there is one; all else is lost when the machine ends.
# NETWORK is a process whose network the machine joins, or "-" for a loopback of its own. SHOWN directories are there at the
# same path, to be read only. DIR/pid gets the process ID of the machine's PID 1. Needs root, and Debian's merged /usr. See
# machine.py.
set -eu
umask 022

step=$1 dir=$2 name=$3 machine_id=$4 network=$5
shift 5
self=$0
disk=$dir/disk

# What the machine's own PID 1 starts at boot from the lists that come with packages; everything else there is masked.
wanted_at_boot=" systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket \
systemd-journal-flush.service systemd-logind.service dbus.service dbus.socket "

# Outside the machine, the hierarchy is at DIR/cgroup in a mount namespace of our own, wherever this system has its own.
mount_cgroups() { # KIND WHERE
    case $1 in
    # There is one hierarchy of this kind, and each mount outside sets its flags: they stay as they are.
    v2)
        flags=$(sed -n 's/^[^ ]* [^ ]* cgroup2 \([^ ]*\).*/\1/p;T;q' /proc/self/mounts | tr , '\n' |
            grep -E '^(nsdelegate|favordynmods|memory_.*|pids_.*)$' | tr '\n' ,)
        mount -t cgroup2 -o "rw,$flags" cgroup2 "$2"
        ;;
    # A hierarchy without controllers, of the name that systemd looks for: there even where it cannot have any controller.
    v1) mount -t cgroup -o none,name=systemd cgroup "$2" ;;
    esac
}

find_cgroups() {
    mkdir -p "$dir/cgroup"
    for kind in ${FLOTILLA_TEST_CGROUPS:-v2 v1}; do
        if mount_cgroups "$kind" "$dir/cgroup" 2>/dev/null; then
            if mkdir "$dir/cgroup/$group" 2>/dev/null; then
                return 0
            fi
            umount "$dir/cgroup"
        fi
    done
    echo "machine.sh: there is no hierarchy of control groups that a directory can be made in" >&2
    exit 1
}

# The kernel may still be ending processes of the machine: a directory goes when the last one in it is gone.
remove_cgroups() {
    tries=0
    while [ -d "$dir/cgroup/$group" ]; do
        find "$dir/cgroup/$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
        tries=$((tries + 1))
        if [ $tries -gt 500 ]; then
            echo "machine.sh: the control group $group stays behind" >&2
            exit 1
        fi
        [ ! -d "$dir/cgroup/$group" ] || sleep 0.02
    done
}

unit() { # NAME: the text comes from standard input
    cat >"$disk/etc/systemd/system/$1"
}

make_etc() { # without arguments: they collect what is copied
    etc=$disk/etc
    mkdir -p "$etc/systemd/system/multi-user.target.wants" "$etc/systemd/system-generators" "$etc/systemd/user-generators" \
        "$etc/pam.d" "$etc/ssl" "$etc/dbus-1/system.d" "$etc/polkit-1/rules.d"
    echo "$machine_id" >"$etc/machine-id"
    echo "$name" >"$etc/hostname"
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost\n' "$name" >"$etc/hosts"
    printf '%s: files\n' passwd group shadow services protocols >"$etc/nsswitch.conf"
    echo 'hosts: files' >>"$etc/nsswitch.conf"
    : >"$etc/fstab"
    # What is in /usr refers to these, and belongs to these users and groups by number.
    for shared in alternatives ld.so.cache ld.so.conf ld.so.conf.d localtime services protocols; do
        [ ! -e "/etc/$shared" ] || set -- "$@" "/etc/$shared"
    done
    cp -a "$@" "$etc/"
    # OpenSSL says so when it does not find its settings.
    [ ! -e /etc/ssl/openssl.cnf ] || cp /etc/ssl/openssl.cnf "$etc/ssl/"
    known='root|daemon|nobody|nogroup|adm|tty|utmp|messagebus|polkitd|systemd-journal|systemd-network|systemd-timesync'
    grep -E "^($known):" /etc/passwd >"$etc/passwd"
    sed -nE "s/^(($known):[^:]*:[0-9]*:).*/\1/p" /etc/group >"$etc/group"
    echo 'fleet:x:1500:1500::/home/fleet:/bin/sh' >>"$etc/passwd"
    echo 'fleet:x:1500:' >>"$etc/group"
    sed 's/:.*/:*:19000:0:99999:7:::/' "$etc/passwd" >"$etc/shadow"
    chmod 640 "$etc/shadow"
    printf '%s required pam_permit.so\n' auth account password session >"$etc/pam.d/other"
    # It is what gives the user's own systemd its XDG_RUNTIME_DIR.
    { cat "$etc/pam.d/other" && echo 'session optional pam_systemd.so'; } >"$etc/pam.d/systemd-user"
    chgrp polkitd "$etc/polkit-1/rules.d"
    chmod 750 "$etc/polkit-1/rules.d"
}

make_units() {
    ln -s /lib/systemd/system/multi-user.target "$etc/systemd/system/default.target"
    # An empty file masks as well as a link to /dev/null, and needs no process to make it.
    for link in /lib/systemd/system/*.target.wants/*; do
        listed=${link##*/}
        case $wanted_at_boot in
        *" $listed "*) ;;
        *) case $listed in *.target | *.path) ;; *) : >"$etc/systemd/system/$listed" ;; esac ;;
        esac
    done
    # The kernel's modules are not the machine's to load.
    : >"$etc/systemd/system/modprobe@.service"
    for whose in system user; do
        for generator in /lib/systemd/"$whose"-generators/*; do
            [ ! -e "$generator" ] || : >"$etc/systemd/$whose-generators/${generator##*/}"
        done
    done
    # Units of the host, which the tests find here and which are nobody else's: one that runs, one with a second name, and one
    # of which there may be several.
    unit ssh.service <<'UNIT'
[Unit]
Description=A service of the host

[Service]
ExecStart=/bin/sleep infinity

[Install]
WantedBy=multi-user.target
UNIT
    unit web.service <<'UNIT'
[Unit]
Description=A service of the host with a second name

[Service]
ExecStart=/bin/sleep infinity

[Install]
Alias=www.service
UNIT
    unit host@.service <<'UNIT'
[Unit]
Description=A service of the host for %i

[Service]
ExecStart=/bin/sleep infinity
UNIT
    ln -s ../ssh.service "$etc/systemd/system/multi-user.target.wants/ssh.service"
    ln -s web.service "$etc/systemd/system/www.service"
}

make_disk() {
    mkdir -p "$disk/var/lib" "$disk/var/cache" "$disk/var/log/journal" "$disk/var/tmp" "$disk/root" "$disk/home/fleet"
    ln -s /run "$disk/var/run"
    chmod 1777 "$disk/var/tmp"
    chmod 700 "$disk/root"
    make_etc
    make_units
    # As Debian has it: what the journal makes there belongs to the group that may read it.
    chgrp systemd-journal "$disk/var/log/journal"
    chmod 2755 "$disk/var/log/journal"
    chown 1500:1500 "$disk/home/fleet"
}

make_root() { # WHERE
    root=$1
    mkdir -p "$root"
    mount -t tmpfs -o mode=755 machine "$root"
    mkdir "$root/usr" "$root/etc" "$root/var" "$root/home" "$root/root" "$root/proc" "$root/sys" "$root/dev" "$root/run" \
        "$root/tmp" "$root/mnt" "$root/srv" "$root/opt" "$root/old"
    chmod 1777 "$root/tmp"
    for link in /bin /sbin /lib*; do
        [ ! -L "$link" ] || cp -P "$link" "$root/"
    done
    mount -o bind,ro /usr "$root/usr"
    # Programs that this system does not have, or has others of.
    [ ! -d "$dir/bin" ] || mount -t overlay -o "ro,lowerdir=$dir/bin:/usr/bin" programs "$root/usr/bin"
    for part in etc var home root; do
        mount --bind "$disk/$part" "$root/$part"
    done
    for shown in "$@"; do
        [ "$shown" != "$root" ] || continue
        mkdir -p "$root$shown"
        mount -o bind,ro "$shown" "$root$shown"
    done
    mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
    # systemd turns some of the kernel's knobs as it starts: only those of its own network are the machine's.
    mount -o bind,ro "$root/proc/sys" "$root/proc/sys"
    mount --bind /proc/sys/net "$root/proc/sys/net" 2>/dev/null || true
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
    mount -t tmpfs -o mode=755,nosuid dev "$root/dev"
    for node in null:3 zero:5 full:7 random:8 urandom:9; do
        mknod -m 666 "$root/dev/${node%:*}" c 1 "${node#*:}"
    done
    mknod -m 666 "$root/dev/tty" c 5 0
    # For automount units, where this system's kernel has them and lets us.
    if (: </dev/autofs) 2>/dev/null; then
        mknod -m 600 "$root/dev/autofs" c 10 235
    fi
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    # What systemd says before the journal runs.
    : >"$dir/kmsg"
    : >"$root/dev/kmsg"
    mount --bind "$dir/kmsg" "$root/dev/kmsg"
    # "entered" is where machine.py puts the processes that it starts inside: in no unit, and yet in the machine.
    case $kind in
    v2)
        mount_cgroups v2 "$root/sys/fs/cgroup"
        mkdir "$root/sys/fs/cgroup/entered"
        ;;
    v1)
        mount -t tmpfs -o mode=755 cgroup "$root/sys/fs/cgroup"
        mkdir "$root/sys/fs/cgroup/systemd"
        mount_cgroups v1 "$root/sys/fs/cgroup/systemd"
        mkdir "$root/sys/fs/cgroup/systemd/entered"
        # So that systemd does not mount the controllers beside it: it would see those of this whole system.
        mount -o remount,bind,ro "$root/sys/fs/cgroup"
        ;;
    esac
}

group=${dir##*/}
case $step in
run) # Outside: makes the machine's place, waits for its end, and leaves nothing behind.
    exec unshare --mount -- sh "$self" keep "$dir" "$name" "$machine_id" "$network" "$@"
    ;;
keep)
    find_cgroups
    [ -d "$disk" ] || make_disk
    own_network=--net enter=
    if [ "$network" != - ]; then
        own_network='' enter="nsenter -t $network --net --"
    fi
    exec 3<&0
    # shellcheck disable=SC2086
    $enter unshare --pid --fork --kill-child --mount --uts --ipc $own_network -- \
        sh "$self" "inside-$kind" "$dir" "$name" "$machine_id" "$network" "$@" 3<&- &
    machine=$!
    # Standard input ends when who asked for the machine is gone, however that came.
    {
        read -r _ <&3 || true
        # PID 1 itself where there is one: unshare then waits for it, and no dead process is left for others to collect.
        { kill -KILL "$(cat "$dir/pid")" || kill -KILL $machine; } 2>/dev/null
    } &
    watcher=$!
    wait $machine || true
    kill $watcher 2>/dev/null || true
    rm -f "$dir/pid"
    remove_cgroups
    ;;
inside-*) # PID 1, in all its namespaces but that of the control groups: those are its own from the group that it is in.
    kind=${step#inside-}
    echo 0 >"$dir/cgroup/$group/cgroup.procs"
    # The process information that is mounted is still that of outside.
    read -r outside _ </proc/self/stat
    echo "$outside" >"$dir/pid.new"
    exec unshare --cgroup -- sh "$self" "boot-$kind" "$dir" "$name" "$machine_id" "$network" "$@"
    ;;
boot-*)
    kind=${step#boot-}
    make_root "$dir/root" "$@"
    cd "$dir/root"
    pivot_root . old
    # Not before this: who enters any earlier is still among the files of this system, and speaks with its systemd.
    mv "/old$dir/pid.new" "/old$dir/pid"
    umount -l /old
    rmdir /old
    # shellcheck disable=SC2046
    exec env -i PATH=/usr/sbin:/usr/bin container=flotilla-test \
        setpriv --bounding-set=-sys_module,-sys_time --inh-caps=-all -- \
        /lib/systemd/systemd --system --show-status=no \
        $([ "$kind" = v2 ] || echo systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1) \
        </dev/null >/dev/null 2>&1
    ;;
esac
