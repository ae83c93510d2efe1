complete -c runpipe -l bind -d 'Listen on this local address only [default: every address, of IPv4 and IPv6]' -r
complete -c runpipe -l connect-timeout -d 'How long each address of the remote host may take to answer, and how long a client waits for the host\'s name to resolve, or for a descriptor' -r
complete -c runpipe -l idle-timeout -d 'Reset connections on which no byte has moved in either direction for this long, except those that wait for the bandwidth limit [default: never]' -r
complete -c runpipe -l max-connections -d 'Forward at most this many connections at once. Further clients wait in the kernel\'s backlog until one ends [default: as many as the limit of descriptors allows]' -r
complete -c runpipe -l shape -d 'Forward at most this many KiB/s (1024 bytes per second) in each direction, over all connections. Connections that could use more share the limit equally; 0 means no limit' -r
complete -c runpipe -l workers -d 'Number of threads that forward; by default the number of cores' -r
complete -c runpipe -l interval -d 'Seconds between two refreshes; fractions are allowed' -r
complete -c runpipe -l count -d 'Exit after N refreshes, as after Ctrl-C' -r
complete -c runpipe -l format -d 'Format of the refreshes' -r -f -a "text\t'Lines of text for people'
json\t'JSON Lines: one line with all data for each refresh'
csv\t'CSV: a header, and a record for each row of each refresh'"
complete -c runpipe -l units -d 'Units of bytes in text, instead of plain numbers' -r -f -a "bin-bytes\t'B, KiB, MiB: steps of 1024'
bin-bits\t'bit, Kibit, Mibit: steps of 1024'
si-bytes\t'B, kB, MB: steps of 1000'
si-bits\t'bit, kbit, Mbit: steps of 1000'"
complete -c runpipe -l by -d 'Group rows by this, or by several together: --by unit,interface' -r -f -a "process\t'Each process by itself, with its pid'
command\t'The command line, or the application'
program\t'The name of the program'
exe\t'The path of the executable file'
user\t'The effective user'
unit\t'The systemd unit'
container\t'The container'
pod\t'The Kubernetes pod'
remote\t'The address of the remote host'
remote-port\t'The protocol and the port of the remote host'
interface\t'The interface of this host'
protocol\t'The protocol'"
complete -c runpipe -l drain-timeout -d 'After Ctrl-C, wait at most this long for open connections, then reset them' -r
complete -c runpipe -l send-proxy -d 'Start each connection to the remote host with a PROXY protocol header, version 2, which contains the client\'s address. The host must expect it'
complete -c runpipe -l details -d 'Add to each row its remote ends, by protocol, port and interface (JSON)'
complete -c runpipe -l resolve -d 'Show names of remote hosts and of ports instead of addresses and numbers, with --by and --top. Reverse look-ups ask the name servers of this host'
complete -c runpipe -l log -d 'Write a line to standard error for each connection that ends'
complete -c runpipe -s h -l help -d 'Print help (see more with \'--help\')'
complete -c runpipe -s V -l version -d 'Print version'
