# Starts two hosts, two edges and a worker on this machine. HYBRID_BACKPLANE must name a Redis. Ctrl-C ends all of them.
$ErrorActionPreference = "Stop"
Set-Location $PSScriptRoot
if (-not $env:HYBRID_BACKPLANE) { throw "set HYBRID_BACKPLANE, for example to redis://127.0.0.1:6379/0" }
$env:HYBRID_BACKPLANE_NAME = "scale_out"

$commands = @(
    @("python", "app.py", "5001"),
    @("python", "app.py", "5002"),
    @("hakgal-hybrid", "edge", "--port", "5101"),
    @("hakgal-hybrid", "edge", "--port", "5102"),
    @("python", "worker.py")
)
$processes = @()
try {
    foreach ($command in $commands) {
        $processes += Start-Process $command[0] -ArgumentList $command[1..9] -NoNewWindow -PassThru
    }
    Write-Output "the page: http://127.0.0.1:5001/ and http://127.0.0.1:5002/; with nginx and nginx.conf http://127.0.0.1:8080/"
    $processes | Wait-Process
} finally {
    $processes | Where-Object { -not $_.HasExited } | Stop-Process
}
