/**
 * What becomes of a gobgpd whose daemon has died. For a while it goes on: a daemon that is started again takes it over with its sessions. One that nobody
 * takes over would tell neighbours for ever of what nobody looks after, so that it is ended, and they are told.
 */

/**
 * For sh(1), with nothing but what is built into it, and sleep: a process of one megabyte that outlives the daemon. A process is known again by its number and
 * the time of its start (proc_pid_stat(5), field 22). Takes the process id of gobgpd, the file with its owner, and the grace in seconds.
 */
const WATCH = `
born() {
  read -r line 2>/dev/null < "/proc/$1/stat" || return 1
  set -- \${line##*) }
  shift 19
  born=$1
}
lost=0
born "$1" || exit 0
mine=$born
while sleep "$4"; do
  born "$1" && [ "$born" = "$mine" ] || exit 0
  owner= since=
  read -r owner since 2>/dev/null < "$2"
  if [ -n "$owner" ] && born "$owner" && [ "$born" = "$since" ]; then
    lost=0
  else
    lost=$((lost + $4))
    if [ "$lost" -ge "$3" ]; then kill -TERM "$1"; exit 0; fi
  fi
done
`;

/** Seconds between two looks. */
const LOOK_SECONDS = 5;

export interface Widow {
  readonly pid: number;
  readonly ownerFile: string;
  /** That it may live without a daemon. */
  readonly graceSeconds: number;
}

export function widowCommand({ pid, ownerFile, graceSeconds }: Widow): readonly [string, ...string[]] {
  const look = Math.max(1, Math.min(LOOK_SECONDS, graceSeconds));
  return ['sh', '-c', WATCH, 'fairway-gobgpd-watch', String(pid), ownerFile, String(graceSeconds), String(look)];
}

/** What the owner's file says of this process: its number and the time of its start. `stat` is /proc/self/stat. */
export function ownerText(stat: string): string {
  const pid = stat.slice(0, stat.indexOf(' '));
  const start = stat.slice(stat.lastIndexOf(') ') + 2).split(' ')[19] ?? '';
  return `${pid} ${start}\n`;
}
