#!/usr/bin/perl
# Process 1 of the lab's User Mode Linux guest: mounts, one command, its exit status, power off.
# One perl process with raw system calls, because a shell doing the same with some 25 forks costs two more seconds.
# The job's folder on the machine is named by labjob= on the kernel command line (see guest.ts for what is in it).
use strict;
use warnings;
use POSIX ();
use Socket;

# x86_64 system call numbers: the guest kernel is built for nothing else.
my ($SYS_PIVOT_ROOT, $SYS_MOUNT, $SYS_REBOOT) = (155, 165, 169);
my ($RNDADDENTROPY, $SIOCSIFFLAGS, $IFF_UP_RUNNING) = (0x40085203, 0x8914, 0x41);
my ($TERMINAL_IN_OUT, $TERMINAL_ERR) = ('/dev/tty1', '/dev/tty2');

sub complain { print STDERR 'lab init: ', @_, ": $!\n" }

sub slurp {
    local $/;
    open my $file, '<', $_[0] or return '';
    return scalar <$file>;
}

sub mount_at {
    my ($target, $type, $source, $options) = @_;
    # syscall() wants variables: it refuses to hand a literal's memory to the kernel.
    my @arguments = ($source // $type, $target, $type, 0, $options // '');
    syscall($SYS_MOUNT, @arguments) == 0 or complain("mount $type on $target");
}

sub record {
    my ($name, $text) = @_;
    open my $file, '>', "/run/job/out/$name" or return complain("write $name");
    print $file $text;
    close $file or complain("write $name");
}

sub root_under_overlay {
    my ($job) = @_;
    mount_at('/mnt', 'tmpfs', 'tmpfs', 'mode=755');
    mkdir "/mnt/$_" for qw(upper work root);
    mount_at('/mnt/root', 'overlay', 'overlay', 'lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work');
    my $root = '/mnt/root';
    mount_at("$root/proc", 'proc');
    mount_at("$root/sys",  'sysfs');
    mount_at("$root/dev",  'devtmpfs');
    mkdir "$root/dev/$_" for qw(pts shm);
    mount_at("$root/dev/pts", 'devpts', 'devpts', 'mode=620,ptmxmode=666');
    mount_at("$root/dev/shm", 'tmpfs');
    mount_at("$root/run",     'tmpfs', 'tmpfs', 'mode=755');
    mkdir "$root/run/$_" for qw(job lock netns);
    mount_at("$root/run/job", 'hostfs', 'none', $job);
    symlink '/proc/self/fd', "$root/dev/fd";
    # pivot_root, not chroot: after a chroot the kernel's own calls to user space would run in the old root.
    mkdir "$root/mnt";
    chdir $root;
    my $old = "$root/mnt";
    syscall($SYS_PIVOT_ROOT, $root, $old) == 0 or complain('pivot_root');
    chdir '/';
}

sub seed_randomness {
    my $seed = slurp('/run/job/seed');
    open my $random, '>', '/dev/urandom' or return complain('open /dev/urandom');
    my $request = pack 'l l a*', 8 * length $seed, length $seed, $seed;
    ioctl($random, $RNDADDENTROPY, $request) or complain('seed the random numbers');
}

sub loopback_up {
    socket my $socket, AF_INET, SOCK_DGRAM, 0 or return complain('socket');
    my $request = pack 'a16 s x22', 'lo', $IFF_UP_RUNNING;
    ioctl($socket, $SIOCSIFFLAGS, $request) or complain('set lo up');
}

# Bytes pass the consoles unchanged only in raw mode. The handles stay open: closing the last one would reset the terminal.
my @consoles;
sub raw_consoles {
    for my $path ($TERMINAL_IN_OUT, $TERMINAL_ERR) {
        sysopen my $console, $path, POSIX::O_RDWR() | POSIX::O_NOCTTY() or do { complain("open $path"); next };
        my $mode = POSIX::Termios->new;
        $mode->getattr(fileno $console);
        $mode->setoflag(0);
        $mode->setlflag(0);
        $mode->setiflag(0);
        $mode->setcflag(($mode->getcflag & ~(POSIX::CSIZE() | POSIX::PARENB())) | POSIX::CS8());
        $mode->setattr(fileno $console, POSIX::TCSANOW());
        push @consoles, $console;
    }
}

sub start_command {
    my @argv      = split /\0/, slurp('/run/job/argv');
    my $directory = slurp('/run/job/cwd');
    for (split /\0/, slurp('/run/job/env')) { my ($name, $value) = split /=/, $_, 2; $ENV{$name} = $value }
    my $pid = fork // die "lab init: fork: $!\n";
    return $pid if $pid;
    POSIX::setsid();
    chdir $directory or complain("chdir $directory");
    my $input = -e '/run/job/stdin' ? $TERMINAL_IN_OUT : '/dev/null';
    sysopen my $in,  $input,           POSIX::O_RDONLY() | POSIX::O_NOCTTY() or complain("open $input");
    sysopen my $out, $TERMINAL_IN_OUT, POSIX::O_WRONLY() | POSIX::O_NOCTTY() or complain("open $TERMINAL_IN_OUT");
    sysopen my $err, $TERMINAL_ERR,    POSIX::O_WRONLY() | POSIX::O_NOCTTY() or complain("open $TERMINAL_ERR");
    POSIX::dup2(fileno $in, 0);
    POSIX::dup2(fileno $out, 1);
    POSIX::dup2(fileno $err, 2);
    exec { $argv[0] } @argv or complain("exec $argv[0]");
    POSIX::_exit(127);
}

sub status_of {
    my ($pid) = @_;
    while ((my $ended = wait) >= 0) {
        next if $ended != $pid;
        return $? & 127 ? 128 + ($? & 127) : $? >> 8;
    }
    return 125;
}

%ENV = (PATH => '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME => '/root', LANG => 'C.UTF-8');
mount_at('/proc', 'proc');
my ($job) = slurp('/proc/cmdline') =~ /\blabjob=(\S+)/ or die "lab init: no labjob= on the kernel command line\n";
root_under_overlay($job);
seed_randomness();
loopback_up();
raw_consoles();
record('boot_uptime', slurp('/proc/uptime'));
my $status = status_of(start_command());
POSIX::tcdrain(fileno $_) for @consoles;
record('status', "$status\n");
my ($magic1, $magic2, $power_off) = (0xfee1dead, 672274793, 0x4321fedc);
syscall($SYS_REBOOT, $magic1, $magic2, $power_off, 0);
